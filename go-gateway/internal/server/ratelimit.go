package server

import (
	"net/http"
	"strconv"

	"triptych.dev/gateway/internal/inference"
	"triptych.dev/gateway/internal/quota"
)

// limitRate lets requests through that the tenant's rate allows.
func (s *Server) limitRate(next handler) handler {
	return func(ex *exchange) (err error) {
		ex.reservation, err = s.Inference.Reserve(ex.principal)
		setRateLimitHeaders(ex.header(), ex.reservation)
		if err != nil {
			return err
		}
		return next(ex)
	}
}

// refundRate gives back what a request took of the rate that is refused for lack of room.
func (s *Server) refundRate(ex *exchange) {
	s.Inference.Cancel(ex.reservation)
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
func setRateLimitHeaders(header http.Header, reserved inference.Reservation) {
	header.Set(limitHeader, strconv.Itoa(reserved.Limit.Burst))
	header.Set(remainingHeader, strconv.Itoa(reserved.Remaining))
	header.Set(resetHeader, quota.RoundUp(reserved.Reset).String())
}
