// Package conformance is what every quota.Store has to do, as tests that each store's own tests run.
package conformance

import (
	"context"
	"sync"
	"testing"
	"time"

	"triptych.dev/gateway/internal/quota"
)

// Clock stands still until it is advanced. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// Noon is when clocks begin: half a day from the next one.
var Noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// NewClock returns a clock that stands at Noon.
func NewClock() *Clock { return &Clock{now: Noon} }

// Now is the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance lets time pass.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Lease is what stores are opened with.
const Lease = 30 * time.Second

// Open returns an empty store. Settle, Renew and Hold take effect before the next call of another method.
type Open func(t testing.TB, now func() time.Time) quota.Store

// subjects is a store with what tests ask of it.
type subjects struct {
	testing.TB
	quota.Store
	clock *Clock
	next  int
}

func open(t testing.TB, of Open) *subjects {
	clock := NewClock()
	return &subjects{TB: t, Store: of(t, clock.Now), clock: clock}
}

// request is one of a tenant with some limits of its own, and none of its key.
func (s *subjects) request(limits quota.Limits) quota.Request {
	s.next++
	return quota.Request{
		ID: "id-" + string(rune('0'+s.next%10)) + "-" + time.Duration(s.next).String(), Tenant: "acme", Key: "key", Counted: true, Runs: true,
		Limits: [quota.Scopes]quota.Limits{quota.Tenant: limits},
	}
}

// tokens is a request of so many tokens at most, and not of fewer than least.
func (s *subjects) tokens(limits quota.Limits, least, most int64) quota.Request {
	request := s.request(limits)
	request.MinTokens, request.MaxTokens = least, most
	return request
}

func (s *subjects) ask(request quota.Request) quota.Decision {
	s.Helper()
	return s.askInstead(request, nil)
}

func (s *subjects) askInstead(request quota.Request, instead *quota.Reservation) quota.Decision {
	s.Helper()
	decision, err := s.Reserve(context.Background(), request, instead)
	if err != nil {
		s.Fatal(err)
	}
	return decision
}

// take asks for what must be granted.
func (s *subjects) take(request quota.Request) quota.Reservation {
	s.Helper()
	decision := s.ask(request)
	if decision.Refusal != nil {
		s.Fatalf("refused: %+v of %+v", *decision.Refusal, decision.States)
	}
	return decision.Reservation
}

// refuse asks for what must be refused by some limit, and returns how long for.
func (s *subjects) refuse(request quota.Request, kind quota.Kind, scope quota.Scope) time.Duration {
	s.Helper()
	refusal := s.ask(request).Refusal
	if refusal == nil || refusal.Kind != kind || refusal.Scope != scope {
		s.Fatalf("refused by %+v, not by %v of a %v", refusal, kind, scope)
	}
	return refusal.RetryAfter
}

// state is what a request's tenant uses.
func (s *subjects) state(request quota.Request) quota.State {
	s.Helper()
	found, err := s.Look(context.Background(), request)
	if err != nil || !found.Now.Equal(s.clock.Now().Truncate(time.Microsecond)) || found.Limits != request.Limits {
		s.Fatalf("got %+v, %v", found, err)
	}
	return found.States[quota.Tenant]
}
