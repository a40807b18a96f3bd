package inference

import (
	"context"
	"fmt"
	"time"

	"triptych.dev/gateway/internal/fault"
)

// inTime refuses a call that cannot be begun by its deadline, going by what is ahead of it and by how fast that gets
// done: at once, and not when the time is over. Its error is a *fault.Fault.
func (s *Service) inTime(ctx context.Context, call *Call, model string) error {
	deadline, has := ctx.Deadline()
	if !has {
		return nil
	}
	left := time.Until(deadline)
	if left <= 0 {
		return fault.New(fault.DeadlineExceeded, "The request's time was over before it was begun.")
	}
	wait := time.Duration(call.Ahead * float64(s.Engine.Backlog(model)))
	if wait <= left {
		return nil
	}
	return &fault.Fault{Reason: fault.QueueFull, RetryAfter: wait - left, Message: fmt.Sprintf(
		"What is ahead of the request takes about %v, and it has %v. Repeat it later, or give it more time.",
		RoundUp(wait), RoundUp(left),
	)}
}

// notReserved is the fault of a call whose limits could not be asked: its time may have been over meanwhile.
func notReserved(ctx context.Context, cause error) error {
	if deadline, has := ctx.Deadline(); has && !time.Now().Before(deadline) {
		return &fault.Fault{Reason: fault.DeadlineExceeded, Cause: cause, Message: "The request's time was over before it was begun."}
	}
	return fault.InternalError(cause)
}
