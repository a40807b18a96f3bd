package server

import (
	"net/http"
	"strconv"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/quota"
)

// admitted lets a request through to serve if its key is good, there is room, and its tenant's plan allows it, in this
// order: a request that we cannot take costs the tenant nothing.
func (s *Server) admitted(serve handler) handler {
	return func(ex *exchange, r *http.Request) error {
		who, err := s.Directory.Authenticate(r.Header.Get("Authorization"))
		if err != nil {
			return err
		}
		ex.tenant = who.Name

		defer s.inflight.Add(-1)
		if s.inflight.Add(1) > int64(s.MaxInflight) {
			return fault.New(fault.QueueFull, "The gateway serves %d requests already, as many as it may. Repeat the request later.", s.MaxInflight)
		}

		limit := quota.Limit{PerMinute: who.Plan.RequestsPerMinute, Burst: who.Plan.RequestBurst}
		decision := s.Requests.Take(who.Name, limit, s.Now())
		setRateLimitHeaders(ex.header(), limit, decision)
		if !decision.Allowed {
			s.Metrics.RateLimited.WithLabelValues(who.Name).Inc()
			refused := fault.New(fault.RateLimited, "The plan %q allows %d requests per minute, and a burst of %d. Repeat the request in %v.",
				who.Plan.Name, limit.PerMinute, limit.Burst, roundUp(decision.RetryAfter))
			refused.RetryAfter = decision.RetryAfter
			return refused
		}
		return serve(ex, r)
	}
}

// setRateLimitHeaders uses OpenAI's names and its form of durations, which is Go's.
func setRateLimitHeaders(header http.Header, limit quota.Limit, decision quota.Decision) {
	header.Set("X-Ratelimit-Limit-Requests", strconv.Itoa(limit.Burst))
	header.Set("X-Ratelimit-Remaining-Requests", strconv.Itoa(decision.Remaining))
	header.Set("X-Ratelimit-Reset-Requests", roundUp(decision.Reset).String())
}

// roundUp to milliseconds: a client that waits as long must not come too early.
func roundUp(d time.Duration) time.Duration {
	return (d + time.Millisecond - 1).Truncate(time.Millisecond)
}
