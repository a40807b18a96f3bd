package server

import (
	"strconv"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/inference"
	"triptych.dev/gateway/internal/quota"
)

// limitRate lets requests through whose tenant's and key's rates are not known to be used up. One that is refused before
// its limits are asked counts as a request too, so that it is not free to be refused; but not where it is for lack of
// room, which is ours.
func (s *Server) limitRate(next handler) handler {
	return func(ex *exchange) error {
		if err := s.Inference.Admit(ex.call()); err != nil {
			return err
		}
		err := next(ex)
		if err == nil || ex.limitsAsked {
			return err
		}
		if fault.Of(err).Reason == fault.QueueFull {
			return err
		}
		if refused := s.Inference.Count(ex.request.Context(), ex.call()); refused != nil {
			return refused
		}
		return err
	}
}

// countRequest lets requests through that the rate allows, and takes one of it.
func (s *Server) countRequest(next handler) handler {
	return func(ex *exchange) error {
		if err := s.Inference.Count(ex.request.Context(), ex.call()); err != nil {
			return err
		}
		return next(ex)
	}
}

// rateLimitHeaders are OpenAI's: limit, what remains of it, and when all of it does again; of requests, then of tokens.
var rateLimitHeaders = []string{
	"X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests",
	"X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens",
}

// tellLimits tells whoever is known its limits in a reply for which they were not asked. It is not counted.
func (ex *exchange) tellLimits() {
	if ex.limitsAsked || ex.detached || ex.principal.Tenant == "" {
		return
	}
	limits, err := ex.server.Inference.RateLimits(ex.request.Context(), ex.call())
	if err != nil {
		return // the reply matters more, or nobody is there any more
	}
	ex.setRateLimits(limits)
}

// setRateLimits tells the limits in these headers, in OpenAI's form of durations, which is Go's.
func (ex *exchange) setRateLimits(limits inference.RateLimits) {
	for i, status := range []*quota.LimitStatus{limits.Requests, limits.Tokens} {
		if status == nil {
			continue
		}
		names := rateLimitHeaders[3*i:]
		header := ex.header()
		header.Set(names[0], strconv.FormatInt(status.Limit, 10))
		header.Set(names[1], strconv.FormatInt(status.Remaining, 10))
		header.Set(names[2], inference.RoundUp(status.Reset).String())
	}
}
