package inference

import (
	"context"
	"fmt"
	"time"

	"triptych.dev/gateway/internal/fault"
)

// surely is how many times as fast as it was ever measured a model is taken to be, where a call is refused for its own
// work: one that would have been done is not to be refused, and one that is late costs no more than it did.
const surely = 4

// inTime refuses a call that cannot be done by its deadline, going by what is ahead of it, by the least that its own work
// may be, and by how fast that gets done: at once, and not when the time is over. Of a call without a least it is only known
// whether it can be begun. Its error is a *fault.Fault.
func (s *Service) inTime(ctx context.Context, call *Call, model string, least func() int64) error {
	deadline, has := ctx.Deadline()
	if !has {
		return nil
	}
	left := time.Until(deadline)
	if left <= 0 {
		return fault.New(fault.DeadlineExceeded, "The request's time was over before it was begun.")
	}
	own := s.takes(model, least)
	if own > left {
		return fault.New(fault.DeadlineExceeded, "The request takes %v or more by itself, and it has %v. Send less at a time, or give it more time.",
			RoundUp(own), RoundUp(left))
	}
	wait := time.Duration(call.Ahead * float64(s.Engine.Backlog(model)))
	if wait+own <= left {
		return nil
	}
	what := fmt.Sprintf("What is ahead of the request takes about %v", RoundUp(wait))
	if own > 0 {
		what += fmt.Sprintf(", it takes %v or more itself", RoundUp(own))
	}
	return &fault.Fault{Reason: fault.QueueFull, RetryAfter: wait + own - left, Message: fmt.Sprintf(
		"%s, and it has %v. Repeat it later, or give it more time.", what, RoundUp(left),
	)}
}

// takes is how long a call's own work takes a model at least; 0 where that is not known.
func (s *Service) takes(model string, least func() int64) time.Duration {
	if least == nil {
		return 0
	}
	fastest := s.Engine.Fastest(model)
	if fastest == 0 {
		return 0
	}
	seconds := float64(least()) / (fastest * surely)
	return time.Duration(min(seconds, longestWork.Seconds()) * float64(time.Second))
}

// longestWork is longer than any request has.
const longestWork = 48 * time.Hour

// notReserved is the fault of a call whose limits could not be asked: its time may have been over meanwhile.
func notReserved(ctx context.Context, cause error) error {
	if deadline, has := ctx.Deadline(); has && !time.Now().Before(deadline) {
		return &fault.Fault{Reason: fault.DeadlineExceeded, Cause: cause, Message: "The request's time was over before it was begun."}
	}
	return fault.InternalError(cause)
}
