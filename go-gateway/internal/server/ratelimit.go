package server

import (
	"net/http"
	"strconv"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/quota"
)

// limitRate takes one request from the tenant's rate.
func (s *Server) limitRate(next handler) handler {
	return func(ex *exchange) error {
		limit := quota.Limit{PerMinute: ex.principal.Plan.RequestsPerMinute, Burst: ex.principal.Plan.RequestBurst}
		decision := s.Requests.Take(ex.principal.Tenant, limit, s.Now())
		setRateLimitHeaders(ex.header(), limit, decision)
		if !decision.Allowed {
			s.Metrics.RateLimited.WithLabelValues(ex.principal.Tenant).Inc()
			refused := fault.New(fault.RateLimited, "The plan %q allows %d requests per minute, and a burst of %d. Repeat the request in %v.",
				ex.principal.Plan.Name, limit.PerMinute, limit.Burst, roundUp(decision.RetryAfter))
			refused.RetryAfter = decision.RetryAfter
			return refused
		}
		ex.charged = limit
		return next(ex)
	}
}

// refundRate gives back what limitRate took, for a request that is refused for lack of room.
func (s *Server) refundRate(ex *exchange) {
	if ex.charged == (quota.Limit{}) {
		return
	}
	s.Requests.Return(ex.principal.Tenant, ex.charged)
	for _, name := range []string{limitHeader, remainingHeader, resetHeader} {
		ex.header().Del(name)
	}
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

// roundUp to milliseconds: a client that waits as long must not come too early.
func roundUp(d time.Duration) time.Duration {
	return (d + time.Millisecond - 1).Truncate(time.Millisecond)
}
