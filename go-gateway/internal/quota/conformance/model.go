package conformance

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"triptych.dev/gateway/internal/quota"
)

const (
	minute = int64(time.Minute / time.Microsecond)
	day    = int64(24 * time.Hour / time.Microsecond)
)

// plan is what a tenant may use in each class, and each of its keys.
type plan [quota.Classes][quota.Scopes]quota.Limits

// someLimits are of any kinds, and none of others.
func someLimits(random *rand.Rand) quota.Limits {
	some := func(least, most int64) int64 {
		if random.IntN(4) == 0 {
			return 0
		}
		return least + random.Int64N(most-least+1)
	}
	return quota.Limits{
		RequestsPerMinute: some(5, 600), RequestBurst: some(1, 20), TokensPerMinute: some(100, 3000), TokensPerDay: some(1500, 20_000),
		ConcurrentRequests: some(1, 8), ConcurrentStreams: some(1, 4), TokensPerRequest: some(100, 900),
	}
}

// somePlan limits a tenant, and its keys more often than not.
func somePlan(random *rand.Rand) (of plan) {
	for class := range of {
		of[class][quota.Tenant] = someLimits(random)
		if random.IntN(4) > 0 {
			of[class][quota.Key] = someLimits(random)
		}
	}
	return of
}

// account is a tenant's or a key's, of one class. There is one tenant.
type account struct {
	scope quota.Scope
	key   string // empty: the tenant's own
	class quota.Class
}

// accountOf is the one of a scope that a request is of.
func accountOf(request *quota.Request, scope quota.Scope) account {
	if scope == quota.Tenant {
		return account{class: request.Class}
	}
	return account{quota.Key, request.Key, request.Class}
}

// taken is one reservation and what became of it.
type taken struct {
	quota.Reservation
	at      int64 // µs
	expires int64
	used    int64 // of a settled one; what was granted until then
	settled bool
	work    *work // nil: it is charged when it is settled
}

// work is charged together, later. What its requests have used is held meanwhile, as was last told.
type work struct {
	quota.Hold
	expires int64
	charged bool
}

// event is what a bucket was taken for, in the order of events.
type event struct {
	at int64
	// one is a reservation: what it costs is not known until it is settled.
	one *taken
	// Else it is so many µs of an account's buckets.
	of               account
	requests, tokens int64
}

// history is all that happened to one tenant, and what follows from it for a store, without any of its algorithms: it
// knows what each request used in the end.
type history struct {
	all    []*taken
	works  []*work
	events []event
}

// used is what an account's limits count now, exactly.
func (h *history) used(of account, now int64) (running, streams, dayTokens int64) {
	for _, one := range h.all {
		if accountOf(&one.Request, of.scope) != of || !one.HasLease(of.scope) {
			continue
		}
		alive := !one.settled && one.expires > now
		if alive {
			running++
			if one.Stream {
				streams++
			}
		}
		switch {
		case one.Day != now/day: // another day's
		case alive:
			dayTokens += one.OfDay(of.scope, one.Granted)
		case one.settled: // what was forgotten came back
			dayTokens += one.SpentOfDay(of.scope, one.used)
		}
	}
	for _, w := range h.works {
		if accountOf(&w.Request, of.scope) == of && w.Holds(of.scope) && w.Day == now/day && (w.charged || !w.Over && w.expires > now) {
			dayTokens += w.Tokens
		}
	}
	return running, streams, dayTokens
}

// take takes note of a reservation.
func (h *history) take(reservation quota.Reservation, at int64, part *work) *taken {
	one := &taken{Reservation: reservation, at: at, expires: at + Lease.Microseconds(), used: reservation.Granted, work: part}
	h.all, h.events = append(h.all, one), append(h.events, event{at: at, one: one})
	return one
}

// pickOut takes one out of those that run; nil where none does.
func pickOut(random *rand.Rand, running *[]*taken) *taken {
	if len(*running) == 0 {
		return nil
	}
	i := random.IntN(len(*running))
	one := (*running)[i]
	*running = slices.Delete(*running, i, i+1)
	return one
}

// eachState tells what a store has of each account that a plan is for.
func (s *subjects) eachState(of *plan, tell func(of account, limits quota.Limits, state quota.State)) {
	s.Helper()
	for class := range quota.Classes {
		for _, key := range keys {
			request := quota.Request{Tenant: "acme", Key: key, Class: class, Limits: of[class]}
			found, err := s.Look(context.Background(), request)
			if err != nil {
				s.Fatal(err)
			}
			for scope, limits := range request.Limits {
				tell(accountOf(&request, quota.Scope(scope)), limits, found.States[scope])
			}
		}
	}
}

// tokensCost is in how many µs so many tokens come back to a bucket.
func tokensCost(tokens int64, limits quota.Limits) int64 {
	if limits.TokensPerMinute == 0 {
		return 0
	}
	return (tokens*minute + limits.TokensPerMinute - 1) / limits.TokensPerMinute
}

// interval is in how many µs a request comes back to a bucket.
func interval(limits quota.Limits) int64 {
	return (minute + limits.RequestsPerMinute - 1) / limits.RequestsPerMinute
}

// buckets is when an account's buckets are full again: that of requests exactly, that of tokens between what would follow if
// it had been known from the beginning what each request would use, and what would if nothing ever came back. It reports false
// where that beginning would not have had room for one of them: it was oversubscribed.
func (h *history) buckets(of account) (requests, least, most int64, kept bool) {
	kept = true
	for _, e := range h.events {
		if e.one == nil {
			if e.of == of {
				requests = max(requests, e.at) + e.requests
				least, most = max(least, e.at)+e.tokens, max(most, e.at)+e.tokens
			}
			continue
		}
		limits := e.one.Limits[of.scope]
		if accountOf(&e.one.Request, of.scope) != of || limits == (quota.Limits{}) {
			continue
		}
		if e.one.Counted && limits.RequestsPerMinute > 0 {
			requests = max(requests, e.at) + interval(limits)
			kept = kept && requests-e.at <= limits.Burst()*interval(limits)
		}
		if limits.TokensPerMinute > 0 && e.one.Granted > 0 {
			least = max(least, e.at) + tokensCost(min(e.one.used, e.one.Granted), limits)
			most = max(most, e.at) + tokensCost(e.one.Granted, limits)
			kept = kept && least-e.at <= minute
		}
	}
	return requests, least, most, kept
}

// settle takes note of what a reservation used. What is more than was granted is taken of the bucket when it is known.
func (h *history) settle(one *taken, used, now int64) {
	one.used, one.settled = used, true
	for scope, limits := range one.Limits {
		if used > one.Granted && one.Granted > 0 && limits.TokensPerMinute > 0 {
			h.events = append(h.events, event{
				at: now, of: accountOf(&one.Request, quota.Scope(scope)), tokens: tokensCost(used, limits) - tokensCost(one.Granted, limits),
			})
		}
	}
}
