package quota

import (
	"math"
	"time"
)

// account is what one tenant or key uses in one class, as this process keeps it. The Lua script of package redisstore
// does the same with Redis' types; tests hold both to the same answers.
type account struct {
	// Theoretical arrival times, in µs since 1970: when the buckets are full again.
	requests, tokens int64
	returned         int64 // to the bucket of tokens, in µs
	touched          int64 // when something was last reserved

	day, dayTokens int64 // tokens used or reserved of a day, since 1970

	leases  map[string]lease
	streams int64
	holds   map[string]hold // by charge
	expiry  int64           // before which no lease and no hold expires

	// Of a share alone: what its shared account has been told, and what this gateway runs beside the leases.
	told    told
	besides *seen
}

// lease is what one running reservation holds.
type lease struct {
	expiry      int64
	stream      bool
	day, tokens int64
}

// hold is what is used of a day and charged later.
type hold struct{ expiry, day, tokens int64 }

// state is what is used now.
func (a *account) state(now int64) State {
	a.expire(now)
	state := State{
		Requests: max(0, a.requests-now), Tokens: max(0, a.tokens-now), Running: int64(len(a.leases)), Streams: a.streams,
	}
	if a.day == now/day {
		state.DayTokens = a.dayTokens
	}
	if a.besides != nil {
		state.Running += a.besides.running
		state.Streams += a.besides.streams
	}
	return state
}

// expire ends leases that were not renewed: their gateway is gone.
func (a *account) expire(now int64) {
	if now < a.expiry || len(a.leases)+len(a.holds) == 0 {
		return
	}
	a.expiry = math.MaxInt64
	for id, held := range a.leases {
		if held.expiry <= now {
			a.end(id, 0)
			continue
		}
		a.expiry = min(a.expiry, held.expiry)
	}
	for id, held := range a.holds {
		if held.expiry <= now {
			a.release(id)
			continue
		}
		a.expiry = min(a.expiry, held.expiry)
	}
}

// hold has so many tokens of a day count as used, if there are not more of that day already.
func (a *account) hold(id string, held hold) {
	if before := a.holds[id]; before.day == held.day {
		held.tokens = max(held.tokens, before.tokens)
	}
	a.release(id)
	if a.day < held.day {
		a.day, a.dayTokens = held.day, 0
	}
	a.addDayTokens(held.day, held.tokens)
	a.expireAt(held.expiry)
	if a.holds == nil {
		a.holds = map[string]hold{}
	}
	a.holds[id] = held
}

// release gives back what is held.
func (a *account) release(id string) {
	held := a.holds[id]
	delete(a.holds, id)
	a.addDayTokens(held.day, -held.tokens)
}

// expireAt says when the next lease or hold expires, of which this is one more.
func (a *account) expireAt(expiry int64) {
	if len(a.leases)+len(a.holds) == 0 {
		a.expiry = expiry
	}
	a.expiry = min(a.expiry, expiry)
}

// charge counts what was used.
func (a *account) charge(charge *Charge, now int64) {
	a.requests, a.tokens = max(a.requests, now)+charge.Requests, max(a.tokens, now)+charge.Tokens
	of := min(charge.Day, now/day)
	if a.day < of && charge.DayTokens > 0 {
		a.day, a.dayTokens = of, 0
	}
	a.addDayTokens(of, charge.DayTokens)
}

// end ends a lease that used so many of its tokens; false if there is none.
func (a *account) end(id string, used int64) bool {
	held, there := a.leases[id]
	if !there {
		return false
	}
	delete(a.leases, id)
	if held.stream {
		a.streams--
	}
	a.addDayTokens(held.day, used-held.tokens)
	return true
}

// addDayTokens adds to a day's tokens, if it is that day still.
func (a *account) addDayTokens(day, tokens int64) {
	if a.day == day {
		a.dayTokens = max(0, a.dayTokens+tokens)
	}
}

// begin starts a lease, or renews it.
func (a *account) begin(id string, held lease) {
	if _, there := a.leases[id]; !there {
		if a.leases == nil {
			a.leases = map[string]lease{}
		}
		if held.stream {
			a.streams++
		}
		a.addDayTokens(held.day, held.tokens)
	}
	a.expireAt(held.expiry)
	a.leases[id] = held
}

// take takes what a request was granted.
func (a *account) take(reservation *Reservation, scope Scope, now int64, lasts time.Duration) {
	limits := reservation.Limits[scope]
	a.touched = now
	if reservation.Counted && limits.RequestsPerMinute > 0 {
		a.requests = max(a.requests, now) + interval(limits.RequestsPerMinute)
	}
	if limits.TokensPerMinute > 0 && reservation.Granted > 0 {
		cost := tokensCost(reservation.Granted, limits.TokensPerMinute)
		a.tokens = max(a.tokens, now) + cost
		reservation.Tokens[scope] = Taken{Cost: cost, ArrivalTime: a.tokens, Returned: a.returned}
	}
	if !reservation.HasLease(scope) {
		return
	}
	if a.day != reservation.Day {
		a.day, a.dayTokens = reservation.Day, 0
	}
	a.begin(reservation.ID, leaseOf(reservation, scope, now, lasts))
}

func leaseOf(reservation *Reservation, scope Scope, now int64, lasts time.Duration) lease {
	return lease{
		expiry: now + lasts.Microseconds(), stream: reservation.Stream,
		day: reservation.Day, tokens: reservation.OfDay(scope, reservation.Granted),
	}
}

// settle returns what was not used.
func (a *account) settle(reservation *Reservation, scope Scope, used, now int64) {
	if unused := reservation.Unused(scope, used); unused < 0 {
		a.tokens = max(a.tokens, now) - unused
	} else if refund := reservation.Tokens[scope].refund(unused, now, a.returned); refund > 0 {
		a.tokens = max(now, a.tokens-refund)
		a.returned += refund
	}
	if !reservation.HasLease(scope) {
		return
	}
	used = reservation.SpentOfDay(scope, used)
	if !a.end(reservation.ID, used) { // it expired, and all came back
		a.addDayTokens(reservation.Day, used)
	}
}

// idle reports whether nothing is kept that an empty account has not.
func (a *account) idle(now int64) bool {
	return a.requests <= now && a.tokens <= now && a.touched+minute <= now && len(a.leases)+len(a.holds) == 0 &&
		(a.dayTokens == 0 || a.day != now/day)
}
