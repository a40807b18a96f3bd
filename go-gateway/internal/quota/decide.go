package quota

import (
	"math"
	"time"
)

// The unit of time is a microsecond: so a Lua script has it, and so Redis tells it.
const (
	minute = int64(time.Minute / time.Microsecond)
	day    = int64(24 * time.Hour / time.Microsecond)
)

// State is what one tenant or key uses in one class, at one moment. Of what is not limited nothing is kept.
type State struct {
	// Requests and Tokens are in how many µs the buckets a minute are full again.
	Requests, Tokens int64
	// DayTokens are used or reserved of the day's.
	DayTokens int64
	// Running and Streams run now.
	Running, Streams int64
}

// interval is in how many µs one of so many a minute is given back, rounded up: never faster than the limit says.
func interval(perMinute int64) int64 { return (minute + perMinute - 1) / perMinute }

// tokensCost is in how many µs so many tokens are given back, rounded up.
func tokensCost(tokens, perMinute int64) int64 {
	if tokens > math.MaxInt64/minute-1 { // no bucket holds as many
		return math.MaxInt64 / 4
	}
	return (tokens*minute + perMinute - 1) / perMinute
}

// tokensLeft is how many tokens a bucket holds that is full again in so many µs.
func tokensLeft(used, perMinute int64) int64 { return max(0, minute-used) * perMinute / minute }

// nextDay is in how many µs the day of UTC ends.
func nextDay(now time.Time) int64 { return day - now.UnixMicro()%day }

// left is how many tokens may be used now.
func (l Limits) left(state State) int64 {
	left := int64(math.MaxInt64)
	if l.TokensPerMinute > 0 {
		left = min(left, tokensLeft(state.Tokens, l.TokensPerMinute))
	}
	if l.TokensPerDay > 0 {
		left = min(left, max(0, l.TokensPerDay-state.DayTokens))
	}
	return left
}

// largest is the most tokens that a request may ever cost, and by which limit.
func (l Limits) largest() (tokens int64, kind Kind) {
	tokens, kind = math.MaxInt64, TokensPerRequest
	for _, k := range []Kind{TokensPerRequest, TokensPerMinute, TokensPerDay} {
		if limit := k.of(l); limit > 0 && limit < tokens {
			tokens, kind = limit, k
		}
	}
	return tokens, kind
}

// decide says how many tokens a request is granted, or why it is refused, and changes nothing.
func (r *Request) decide(states [Scopes]State, now time.Time) (granted int64, refusal *Refusal) {
	refused := refusals{request: r}
	largest, kind, scope := r.Largest()
	if r.MinTokens > largest {
		return 0, &Refusal{Kind: kind, Scope: scope, Limit: largest, Tokens: r.MinTokens, TooLarge: true}
	}
	granted = min(r.MaxTokens, largest)
	for scope, limits := range r.Limits {
		granted = min(granted, limits.left(states[scope]))
	}
	for scope, limits := range r.Limits {
		state := states[scope]
		if r.Counted && limits.RequestsPerMinute > 0 {
			each := interval(limits.RequestsPerMinute)
			refused.add(RequestsPerMinute, Scope(scope), state.Requests+each-each*limits.Burst())
		}
		if r.MaxTokens > 0 && granted < r.MinTokens {
			// After so long all that it may cost is left, and so what it does cost.
			wanted := min(r.MaxTokens, largest)
			if limits.TokensPerMinute > 0 {
				refused.add(TokensPerMinute, Scope(scope), state.Tokens+tokensCost(wanted, limits.TokensPerMinute)-minute)
			}
			if limits.TokensPerDay > 0 && limits.TokensPerDay-state.DayTokens < wanted {
				refused.add(TokensPerDay, Scope(scope), nextDay(now))
			}
		}
		if r.Runs && limits.ConcurrentRequests > 0 && state.Running >= limits.ConcurrentRequests {
			refused.add(ConcurrentRequests, Scope(scope), unknownWait)
		}
		if r.Runs && r.Stream && limits.ConcurrentStreams > 0 && state.Streams >= limits.ConcurrentStreams {
			refused.add(ConcurrentStreams, Scope(scope), unknownWait)
		}
	}
	if refused.worst != nil {
		return 0, refused.worst
	}
	return granted, nil
}

// refund is how much of what was taken of a bucket may be returned: what was not used, less what has healed since. A
// bucket heals while a request runs, and that is not returned a second time; nor is it known whose part has healed, so
// the reservation's own is taken for the first to do so, and what others returned for healed.
func (t Taken) refund(unused, now, returned int64) int64 {
	return max(0, min(unused, t.ArrivalTime-now-max(0, returned-t.Returned)))
}
