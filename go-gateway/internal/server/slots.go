package server

import (
	"fmt"

	"triptych.dev/gateway/internal/admission"
	"triptych.dev/gateway/internal/fault"
)

const (
	// oneSlot is what each tenant is guaranteed of the slots for requests: the reserve then serves the most newcomers.
	oneSlot = 1
	// maxDrains is how many refused bodies are read to their end at once: each is a connection and a few KiB for as
	// long as the body takes to arrive.
	maxDrains = 256
)

// takeSlot lets as many requests through as are served at once.
func (s *Server) takeSlot(next handler) handler {
	return func(ex *exchange) error {
		if !s.slots.TryAcquire(ex.principal.Tenant, 1) {
			return noRoom("requests at once", s.slots, 1)
		}
		start := s.Now()
		defer func() { s.slots.ReleaseAfter(ex.principal.Tenant, 1, s.Now().Sub(start)) }()
		return next(ex)
	}
}

// noRoom refuses a request for lack of what a pool shares, and says when as much as it asked for will be given back.
func noRoom(what string, pool *admission.Pool, amount int64) error {
	return &fault.Fault{Reason: fault.QueueFull, RetryAfter: pool.FreeIn(amount), Message: fmt.Sprintf(
		"The gateway serves %d %s, and a tenant may have four times what is left of them. Repeat the request later.",
		pool.Total(), what)}
}
