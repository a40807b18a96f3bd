package server

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/plans"
)

// timeoutHeader is in how many seconds of its headers' arrival a client wants its request done. It is ours:
// x-stainless-read-timeout, which OpenAI's SDKs send, bounds each wait for bytes, and not a request.
const timeoutHeader = "X-Request-Timeout"

var validTimeout = regexp.MustCompile(`^[0-9]{1,5}(\.[0-9]{1,3})?$`)

// setDeadline gives a request the time that its client and its plan give it, whichever is less; where neither does, it
// has what the gateway's settings say.
func (s *Server) setDeadline(next handler) handler {
	return func(ex *exchange) error {
		timeout, err := requestTimeout(ex.request.Header)
		if err != nil {
			return err
		}
		if most := ex.principal.Plan.MaxSeconds; most > 0 && (timeout == 0 || timeout > time.Duration(most)*time.Second) {
			timeout = time.Duration(most) * time.Second
		}
		if timeout == 0 {
			return next(ex)
		}
		ctx, cancel := context.WithDeadline(ex.request.Context(), ex.start.Add(timeout))
		defer cancel()
		ex.request, ex.timeout = ex.request.WithContext(ctx), timeout
		return next(ex)
	}
}

// requestTimeout is what a client gives its request; 0 if it does not say.
func requestTimeout(header http.Header) (time.Duration, error) {
	sent := header.Values(timeoutHeader)
	if len(sent) == 0 {
		return 0, nil
	}
	if len(sent) == 1 && validTimeout.MatchString(sent[0]) {
		if seconds, err := strconv.ParseFloat(sent[0], 64); err == nil && seconds > 0 && seconds <= plans.MaxRequestSeconds {
			return time.Duration(seconds * float64(time.Second)), nil
		}
	}
	return 0, fault.New(fault.InvalidValue,
		"%s must be one number of seconds from 0.001 to %d, with at most three decimals, not %.100q.", timeoutHeader, plans.MaxRequestSeconds, fmt.Sprint(sent))
}

// timeOver is the fault of a request whose own time is over.
func (ex *exchange) timeOver() error {
	return fault.New(fault.DeadlineExceeded, "The request was not done within its own %v.", ex.timeout)
}
