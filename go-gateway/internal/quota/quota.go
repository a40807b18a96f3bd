// Package quota decides whether a tenant and its key may make a request now, and counts what they use: requests and
// tokens a minute, tokens a day, what runs at once.
//
// A request is reserved with the most that it may cost, run, and settled with what it did cost. All limits of tenant and
// key are one decision, so that nothing is taken from one of them if another one refuses. Where the numbers are kept is
// a [Store]'s: this process's memory, or Redis. docs/limits.md has the algorithms and their sources.
//
// It must not depend on HTTP, and reads no clock: stores are given one.
package quota

import (
	"context"
	"iter"
	"time"
)

// Class is a class of requests: the hot path serves a higher one first, and each has limits and numbers of its own.
type Class int

// All classes, the highest first.
const (
	Interactive Class = iota // somebody waits
	Batch                    // nobody does
	Classes                  // how many there are
)

var classNames = [...]string{"interactive", "batch"}

func (c Class) String() string { return classNames[c] }

// ClassOf is the class of a name; Batch where there is none of it, which may do the least.
func ClassOf(name string) Class {
	if name == Interactive.String() {
		return Interactive
	}
	return Batch
}

// Scope is whose limit it is.
type Scope int

// All scopes. A request has to keep to the limits of both.
const (
	Tenant Scope = iota // all of a tenant's keys together
	Key                 // one key
	Scopes              // how many there are
)

var scopeNames = [...]string{"tenant", "key"}

func (s Scope) String() string { return scopeNames[s] }

// Limits are what one tenant, or one key, may use in one class. 0 is no limit.
type Limits struct {
	// RequestsPerMinute is how fast requests are given back, RequestBurst how many a full bucket holds: a minute's worth
	// if it is 0.
	RequestsPerMinute, RequestBurst int64
	// TokensPerMinute is how fast tokens are given back, and how many a full bucket holds.
	TokensPerMinute int64
	// TokensPerDay is for a day of UTC.
	TokensPerDay int64
	// ConcurrentRequests and ConcurrentStreams are how many run at once; a stream is a request too.
	ConcurrentRequests, ConcurrentStreams int64
	// TokensPerRequest is the largest request.
	TokensPerRequest int64
}

// Bounds of the numbers, within which products of them are exact, in 64 bits and in a Lua script's floating point.
const (
	MaxRequestsPerMinute = 1_000_000
	MaxTokensPerMinute   = 100_000_000
	MaxTokensPerDay      = 1_000_000_000_000
	MaxConcurrent        = 1_000_000
)

// Burst is how many requests a full bucket holds.
func (l Limits) Burst() int64 {
	if l.RequestBurst > 0 {
		return l.RequestBurst
	}
	return l.RequestsPerMinute
}

// limitsTokens reports whether there is a limit of tokens, whatever its time.
func (l Limits) limitsTokens() bool {
	return l.TokensPerMinute > 0 || l.TokensPerDay > 0 || l.TokensPerRequest > 0
}

// NeedsLease reports whether some limit does not heal by itself: what holds a part of it must be known, so that it comes
// back if its gateway dies.
func (l Limits) NeedsLease() bool {
	return l.TokensPerDay > 0 || l.ConcurrentRequests > 0 || l.ConcurrentStreams > 0
}

// Request is what a decision is asked for.
type Request struct {
	// ID is this request's alone: its lease is known by it.
	ID string
	// Tenant and Key name whose request it is.
	Tenant, Key string
	Class       Class
	// Limits are the tenant's and the key's, of this class.
	Limits [Scopes]Limits
	// Counted requests take one of the requests a minute.
	Counted bool
	// Runs says that it runs, and counts among those that do so at once; Stream, that it is a stream as well.
	Runs, Stream bool
	// MaxTokens is the most that it may cost. Fewer are reserved if fewer are left, but not less than MinTokens. 0: it
	// costs none, and limits of tokens do not matter to it.
	MinTokens, MaxTokens int64
	// Pending, where it is not nil, is charged what the request uses of the day, once it is told: its settlement is not.
	Pending *Pending
}

// Limited yields the scopes that have a limit at all: nothing is kept of the others.
func (r *Request) Limited() iter.Seq[Scope] {
	return func(yield func(Scope) bool) {
		for scope := range Scopes {
			if r.Limits[scope] != (Limits{}) && !yield(scope) {
				return
			}
		}
	}
}

// HasLimits reports whether there is a limit at all.
func (r *Request) HasLimits() bool { return r.Limits != [Scopes]Limits{} }

// HasLease reports whether the request holds a lease in a scope while it runs.
func (r *Request) HasLease(scope Scope) bool { return r.Runs && r.Limits[scope].NeedsLease() }

// HasLeases reports whether it holds one in any.
func (r *Request) HasLeases() bool { return r.HasLease(Tenant) || r.HasLease(Key) }

// OfDay is what so many tokens take of a scope's budget of a day: all, or nothing where there is none.
func (r *Request) OfDay(scope Scope, tokens int64) int64 {
	if r.Limits[scope].TokensPerDay == 0 {
		return 0
	}
	return tokens
}

// SpentOfDay is what a settlement charges to a scope's budget of a day.
func (r *Reservation) SpentOfDay(scope Scope, used int64) int64 {
	if r.Pending != nil {
		return 0
	}
	return r.OfDay(scope, used)
}

// Explain returns why a request is refused where so much is used; nil if it is not.
func (r *Request) Explain(states [Scopes]State, now time.Time) *Refusal {
	_, refusal := r.decide(states, now)
	return refusal
}

// DayOf is the day of UTC, since 1970.
func DayOf(now time.Time) int64 { return now.UnixMicro() / day }

// Largest returns the most tokens that the request may ever cost, and by which limit.
func (r *Request) Largest() (tokens int64, kind Kind, scope Scope) {
	tokens, kind = r.Limits[Tenant].largest()
	if ofKey, its := r.Limits[Key].largest(); ofKey < tokens {
		return ofKey, its, Key
	}
	return tokens, kind, Tenant
}

// LimitsTokens reports whether some limit of tokens is the request's.
func (r *Request) LimitsTokens() bool {
	return r.Limits[Tenant].limitsTokens() || r.Limits[Key].limitsTokens()
}

// Reservation is what a request has taken. Its store settles it.
type Reservation struct {
	Request
	// Degraded says that it was taken from the local share, and share from which one.
	Degraded bool
	share    *share
	// Granted is how many tokens it may use.
	Granted int64
	// Day is the day of UTC, since 1970, whose budget it is charged to.
	Day int64
	// Tokens says of each scope what was taken from its bucket of tokens a minute.
	Tokens [Scopes]Taken
}

// Unused is what a reservation took from a bucket of tokens a minute and did not use, in µs of its healing; below 0 where it
// used more.
func (r *Reservation) Unused(scope Scope, used int64) int64 {
	taken := r.Tokens[scope]
	if taken.Cost == 0 {
		return 0
	}
	return taken.Cost - tokensCost(used, r.Limits[scope].TokensPerMinute)
}

// Taken is what was taken of a bucket whose part may be returned.
type Taken struct {
	// Cost is what was taken, in µs of the bucket's healing.
	Cost int64
	// ArrivalTime is the bucket's theoretical arrival time after that, in µs since 1970, and Returned what had been
	// returned to it by then.
	ArrivalTime, Returned int64
}

// Decision is the answer to a Request.
type Decision struct {
	// Reservation is what was taken; nothing where it was refused.
	Reservation Reservation
	// Refusal says why it was refused; nil if it was not.
	Refusal *Refusal
	// States are what is used now, this request included, of tenant and key.
	States [Scopes]State
	// Limits are those that decided: the request's, or the local share of them.
	Limits [Scopes]Limits
	// Now is the store's time.
	Now time.Time
}

// Store keeps what is used. Its methods are safe for concurrent use.
type Store interface {
	// Reserve decides, and takes what was asked for if it may be had. What the request had reserved until now, instead of
	// which it asks, is given back before, whatever is decided; nil if nothing. The error is of the store.
	Reserve(ctx context.Context, request Request, instead *Reservation) (Decision, error)
	// Settle returns what a reservation took and did not use, and ends what it holds. It may be more than was granted.
	// Each reservation is settled once.
	Settle(reservation Reservation, used int64)
	// Renew makes what reservations hold last for another lease.
	Renew(reservations []Reservation)
	// Hold has tokens of the day count as used, by what is to be charged for them later, for another lease.
	Hold(holds []Hold)
	// Charge counts what was used, each charge once, however often it is told, and returns the states after that. It ends
	// what was held for it. After an error some of it may count already; it is told again.
	Charge(ctx context.Context, charges []Charge) ([]State, error)
	// Forget says that charges are told no more, and nothing is held for them.
	Forget(charges []Charge)
	// Look says what a request's tenant and key use now, of which limits; it takes nothing.
	Look(ctx context.Context, request Request) (Decision, error)
	// Lease is for how long a reservation holds what does not heal by itself, unless it is renewed.
	Lease() time.Duration
}
