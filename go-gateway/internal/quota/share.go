package quota

import (
	"context"
	"math/bits"
	"time"
)

// seen is what this gateway knows of an account in the shared store.
type seen struct {
	limits Limits // the latest
	// Arrival times of the buckets, in µs since 1970 by this gateway's clock, and tokens used of a day.
	requests, tokens int64
	day, dayTokens   int64
	// What this gateway runs, but for what holds leases of its share.
	running, streams int64
}

// share is the part of every limit that this gateway gives out while the shared store is away: an account of each subject
// that goes on from what was last seen of the shared one. A part heals as fast as the whole, so arrival times are the same
// in both. What the share lets in is owed to the shared store.
type share struct {
	*Memory
	gateways int64
}

func newShare(now func() time.Time, lease time.Duration, gateways int64, of func(subject) *seen) *share {
	s := &share{NewMemory(now, lease), gateways}
	s.start = func(subject subject) *account {
		known := of(subject)
		a := &account{requests: known.requests, tokens: known.tokens, day: known.day, besides: known}
		if limit := known.limits.TokensPerDay; limit > 0 {
			a.dayTokens = scale(known.dayTokens, s.part(limit), limit)
		}
		a.told = told{a.requests, a.tokens, a.day, a.dayTokens}
		return a
	}
	return s
}

// part is this gateway's of a limit: at least one.
func (s *share) part(limit int64) int64 {
	if limit == 0 {
		return 0
	}
	return max(1, limit/s.gateways)
}

// parts are this gateway's of limits. The largest request is nobody's to share.
func (s *share) parts(of [Scopes]Limits) [Scopes]Limits {
	for scope := range of {
		l := &of[scope]
		l.RequestBurst = s.part(l.Burst())
		l.RequestsPerMinute, l.TokensPerMinute, l.TokensPerDay = s.part(l.RequestsPerMinute), s.part(l.TokensPerMinute), s.part(l.TokensPerDay)
		l.ConcurrentRequests, l.ConcurrentStreams = s.part(l.ConcurrentRequests), s.part(l.ConcurrentStreams)
	}
	return of
}

// reserve decides by the share.
func (s *share) reserve(ctx context.Context, request Request) (Decision, error) {
	largest, _, _ := request.Largest()
	wanted := request.MinTokens
	request.Limits = s.parts(request.Limits)
	decision, err := s.Reserve(ctx, request, nil)
	decision.Reservation.Degraded, decision.Reservation.share = true, s
	// What is more than the share only has to wait until the store is back.
	if refusal := decision.Refusal; refusal != nil && refusal.TooLarge && wanted <= largest {
		refusal.TooLarge, refusal.RetryAfter = false, time.Minute
	}
	return decision, err
}

// owed returns what was let in since it was last asked for, without IDs. What runs is charged to the day once it has ended.
func (s *share) owed() []Charge {
	now := s.now().UnixMicro()
	s.mu.Lock()
	defer s.mu.Unlock()
	var charges []Charge
	for of, a := range s.accounts {
		charge := a.owed(now, s)
		if charge.Requests > 0 || charge.Tokens > 0 || charge.DayTokens > 0 {
			charge.Tenant, charge.Key, charge.Class = of.tenant, of.key, of.class
			charges = append(charges, charge)
		}
	}
	return charges
}

// leave counts what still runs among what this gateway runs, for the share that comes after this one.
func (s *share) leave(account func(subject) *seen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for of, a := range s.accounts {
		if len(a.leases) > 0 {
			known := account(of)
			known.running += int64(len(a.leases))
			known.streams += a.streams
		}
	}
}

// told is what of an account its shared one has been told, or told itself.
type told struct {
	requests, tokens int64 // arrival times
	day, dayTokens   int64
}

func (a *account) owed(now int64, s *share) Charge {
	dayTokens := a.dayTokens
	for _, held := range a.leases {
		if held.day == a.day {
			dayTokens -= held.tokens
		}
	}
	for _, held := range a.holds { // is charged by itself
		if held.day == a.day {
			dayTokens -= held.tokens
		}
	}
	if a.told.day != a.day {
		a.told.dayTokens = 0
	}
	limits := a.besides.limits
	charge := Charge{Day: a.day, DayTokens: max(0, dayTokens-a.told.dayTokens)}
	if limit := limits.RequestsPerMinute; limit > 0 {
		charge.Requests = scale(a.requests-max(now, a.told.requests), interval(limit), interval(s.part(limit)))
	}
	if limit := limits.TokensPerMinute; limit > 0 {
		charge.Tokens = scale(a.tokens-max(now, a.told.tokens), s.part(limit), limit)
	}
	a.told = told{a.requests, a.tokens, a.day, dayTokens}
	return charge
}

// scale is n times a part of a whole, rounded up; 0 where n is below.
func scale(n, part, whole int64) int64 {
	high, low := bits.Mul64(uint64(max(0, n)), uint64(part))
	low, carry := bits.Add64(low, uint64(whole-1), 0)
	quotient, _ := bits.Div64(high+carry, low, uint64(whole))
	return int64(quotient)
}
