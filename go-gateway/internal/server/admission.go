package server

import (
	"net/http"
	"strconv"
	"time"

	"triptych.dev/gateway/internal/admission"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/tenant"
)

const (
	// onePlace is what each tenant is guaranteed of the places for requests: the reserve then serves the most newcomers.
	onePlace = 1
	// mostDrains is how many refused bodies are read to their end at once: each is a connection and a few KiB for as long as
	// the body takes to arrive.
	mostDrains = 256
)

// bodyHandler serves one request whose body is here.
type bodyHandler func(ex *exchange, r *http.Request, body []byte) error

// admitted lets a request without a body through to serve if its key is good, its tenant's plan allows it, and there is
// room.
func (s *Server) admitted(serve handler) handler {
	return s.authenticated(func(ex *exchange, r *http.Request, who tenant.Tenant) error {
		if err := s.charge(ex, who); err != nil {
			return err
		}
		if !s.places.Take(ex.tenant, 1) {
			return s.noPlace(ex)
		}
		defer s.places.Return(ex.tenant, 1)
		return serve(ex, r)
	})
}

// admittedBody does the same for a request with a body. While it arrives it takes bytes and no place: a client that sends
// half a body keeps nobody from being served. The bytes are held to the request's end, since decoded they are still there.
func (s *Server) admittedBody(serve bodyHandler) handler {
	return s.authenticated(func(ex *exchange, r *http.Request, who tenant.Tenant) error {
		held := bodyBytes{pool: s.bodies, tenant: ex.tenant}
		defer held.release()
		if !held.take(s.announcedBytes(r)) {
			return s.noBytes(ex)
		}
		if err := s.charge(ex, who); err != nil {
			return err
		}
		body, err := s.readBody(ex, r, &held)
		if err != nil {
			return err
		}
		if !s.places.Take(ex.tenant, 1) {
			return s.noPlace(ex)
		}
		defer s.places.Return(ex.tenant, 1)
		return serve(ex, r, body)
	})
}

// authenticated hands a request with a good key on.
func (s *Server) authenticated(serve func(*exchange, *http.Request, tenant.Tenant) error) handler {
	return func(ex *exchange, r *http.Request) error {
		who, err := s.Directory.Authenticate(r.Header.Get("Authorization"))
		if err != nil {
			return err
		}
		ex.tenant = who.Name
		return serve(ex, r, who)
	}
}

// charge takes one request from the tenant's rate.
func (s *Server) charge(ex *exchange, who tenant.Tenant) error {
	limit := quota.Limit{PerMinute: who.Plan.RequestsPerMinute, Burst: who.Plan.RequestBurst}
	decision := s.Requests.Take(ex.tenant, limit, s.Now())
	setRateLimitHeaders(ex.header(), limit, decision)
	if !decision.Allowed {
		s.Metrics.RateLimited.WithLabelValues(ex.tenant).Inc()
		refused := fault.New(fault.RateLimited, "The plan %q allows %d requests per minute, and a burst of %d. Repeat the request in %v.",
			who.Plan.Name, limit.PerMinute, limit.Burst, roundUp(decision.RetryAfter))
		refused.RetryAfter = decision.RetryAfter
		return refused
	}
	ex.charged = limit
	return nil
}

func (s *Server) noPlace(ex *exchange) error {
	return s.noRoom(ex, "requests at once", s.places)
}

func (s *Server) noBytes(ex *exchange) error {
	return s.noRoom(ex, "bytes of request bodies at once", s.bodies)
}

// noRoom refuses a request for lack of what a pool shares. It costs the tenant nothing.
func (s *Server) noRoom(ex *exchange, what string, pool *admission.Pool) error {
	if ex.charged != (quota.Limit{}) {
		s.Requests.Return(ex.tenant, ex.charged)
		clearRateLimitHeaders(ex.header())
	}
	return fault.New(fault.QueueFull, "The gateway serves %d %s, and a tenant may have four times what is left of them. Repeat the request later.",
		pool.Total(), what)
}

// Headers of rate limits, as OpenAI names them.
const (
	limitHeader     = "X-Ratelimit-Limit-Requests"
	remainingHeader = "X-Ratelimit-Remaining-Requests"
	resetHeader     = "X-Ratelimit-Reset-Requests"
)

// setRateLimitHeaders uses OpenAI's form of durations, which is Go's.
func setRateLimitHeaders(header http.Header, limit quota.Limit, decision quota.Decision) {
	header.Set(limitHeader, strconv.Itoa(limit.Burst))
	header.Set(remainingHeader, strconv.Itoa(decision.Remaining))
	header.Set(resetHeader, roundUp(decision.Reset).String())
}

func clearRateLimitHeaders(header http.Header) {
	header.Del(limitHeader)
	header.Del(remainingHeader)
	header.Del(resetHeader)
}

// roundUp to milliseconds: a client that waits as long must not come too early.
func roundUp(d time.Duration) time.Duration {
	return (d + time.Millisecond - 1).Truncate(time.Millisecond)
}
