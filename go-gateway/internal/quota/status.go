package quota

import (
	"slices"
	"time"
)

// Kind is what a limit is of.
type Kind int

// All kinds.
const (
	RequestsPerMinute Kind = iota
	TokensPerMinute
	TokensPerDay
	ConcurrentRequests
	ConcurrentStreams
	TokensPerRequest
)

// Kinds are all of them, in the order in which they are told.
var Kinds = []Kind{RequestsPerMinute, TokensPerMinute, TokensPerDay, ConcurrentRequests, ConcurrentStreams, TokensPerRequest}

var kindNames = [...]string{
	"requests_per_minute", "tokens_per_minute", "tokens_per_day", "concurrent_requests", "concurrent_streams", "tokens_per_request",
}

func (k Kind) String() string { return kindNames[k] }

// of is the limit of a kind; 0 is none.
func (k Kind) of(l Limits) int64 {
	switch k {
	case RequestsPerMinute:
		return l.RequestsPerMinute
	case TokensPerMinute:
		return l.TokensPerMinute
	case TokensPerDay:
		return l.TokensPerDay
	case ConcurrentRequests:
		return l.ConcurrentRequests
	case ConcurrentStreams:
		return l.ConcurrentStreams
	default:
		return l.TokensPerRequest
	}
}

// Refusal is why a request was refused.
type Refusal struct {
	// Kind and Scope say which limit it was, of several the one that takes longest.
	Kind  Kind
	Scope Scope
	// Limit is its number, Tokens what the request may cost, where that is what it was refused for.
	Limit, Tokens int64
	// RetryAfter is when the request would be let in, if nobody else asks meanwhile; 0 where nobody knows, as of what runs
	// at once.
	RetryAfter time.Duration
	// TooLarge says that the plan can never admit it.
	TooLarge bool
}

// unknownWait stands for a wait that nobody knows: it is longer than none, and shorter than any.
const unknownWait = 1

// refusals keeps the one that takes longest.
type refusals struct {
	request *Request
	worst   *Refusal
	wait    int64
}

// add takes note that a limit refuses for so many µs; not if it does not.
func (r *refusals) add(kind Kind, scope Scope, wait int64) {
	if wait <= r.wait {
		return
	}
	r.wait = wait
	r.worst = &Refusal{Kind: kind, Scope: scope, Limit: kind.of(r.request.Limits[scope])}
	switch kind {
	case ConcurrentRequests, ConcurrentStreams:
		return
	case TokensPerMinute, TokensPerDay:
		r.worst.Tokens = r.request.MaxTokens
	}
	r.worst.RetryAfter = time.Duration(wait) * time.Microsecond
}

// LimitStatus is one limit and how much of it is used.
type LimitStatus struct {
	Kind  Kind
	Scope Scope
	// Limit is the most there may be: for requests a minute the burst. Remaining are left of it.
	Limit, Remaining int64
	// Reset is when all of it is left again, if nothing is used meanwhile; 0 where nobody knows.
	Reset time.Duration
}

// Used is how much of it is used.
func (s LimitStatus) Used() int64 { return s.Limit - s.Remaining }

// Status says how much of one limit is used; false if there is none.
func Status(kind Kind, scope Scope, limits Limits, state State, now time.Time) (LimitStatus, bool) {
	status := LimitStatus{Kind: kind, Scope: scope, Limit: kind.of(limits)}
	if status.Limit == 0 {
		return status, false
	}
	after := func(µs int64) time.Duration { return time.Duration(max(0, µs)) * time.Microsecond }
	switch kind {
	case RequestsPerMinute:
		each := interval(limits.RequestsPerMinute)
		status.Limit = limits.Burst()
		status.Remaining, status.Reset = (each*status.Limit-state.Requests)/each, after(state.Requests)
	case TokensPerMinute:
		status.Remaining, status.Reset = tokensLeft(state.Tokens, status.Limit), after(state.Tokens)
	case TokensPerDay:
		status.Remaining = status.Limit - state.DayTokens
		if state.DayTokens > 0 {
			status.Reset = after(nextDay(now))
		}
	case ConcurrentRequests:
		status.Remaining = status.Limit - state.Running
	case ConcurrentStreams:
		status.Remaining = status.Limit - state.Streams
	case TokensPerRequest:
		status.Remaining = status.Limit
	}
	status.Remaining = max(0, status.Remaining)
	return status, true
}

// Binding is the limit of some kinds that refused, or else the one of which the least is left, of tenant and key; false if
// there is none. The one that refused may have more left than another one, and take longer.
func (d *Decision) Binding(kinds ...Kind) (binding LimitStatus, found bool) {
	if refused := d.Refusal; refused != nil && slices.Contains(kinds, refused.Kind) {
		return Status(refused.Kind, refused.Scope, d.Limits[refused.Scope], d.States[refused.Scope], d.Now)
	}
	for scope, limits := range d.Limits {
		for _, kind := range kinds {
			status, limited := Status(kind, Scope(scope), limits, d.States[scope], d.Now)
			if limited && (!found || status.Remaining < binding.Remaining) {
				binding, found = status, true
			}
		}
	}
	return binding, found
}
