package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"triptych.dev/gateway/internal/fault"
)

// errorDomain marks ErrorInfo of ours.
const errorDomain = "triptych.dev"

// reasons are those that the contract's methods may give; ErrorInfo has them by the same names. What the hot path says
// of itself (INTERNAL, CANCELLED) is a fault of ours, like every name that is not here.
var reasons = map[fault.Reason]bool{
	fault.InvalidValue:          true,
	fault.MissingField:          true,
	fault.ModelNotFound:         true,
	fault.ModelTaskMismatch:     true,
	fault.EmptyInput:            true,
	fault.InputTooLong:          true,
	fault.TooManyInputs:         true,
	fault.TokenIDOutOfRange:     true,
	fault.DimensionsUnsupported: true,
	fault.ChargeTooHigh:         true,
	fault.QueueFull:             true,
	fault.DeadlineExceeded:      true,
	fault.SlowReader:            true,
	fault.ModelNotReady:         true,
	fault.HotpathUnavailable:    true,
}

// faultOf says what a failed call means. The fault's Param is the contract's field, as in "inputs[1]".
func faultOf(ctx context.Context, err error, timeout time.Duration) *fault.Fault {
	if errors.Is(ctx.Err(), context.Canceled) {
		return &fault.Fault{Reason: fault.Cancelled, Message: "The client went away.", Cause: err}
	}
	if errors.Is(err, errNoDone) {
		return fault.InternalError(err)
	}
	failed := status.Convert(err)
	var info *errdetails.ErrorInfo
	var retryAfter time.Duration
	for _, detail := range failed.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == errorDomain {
				info = detail
			}
		case *errdetails.RetryInfo:
			retryAfter = detail.GetRetryDelay().AsDuration()
		}
	}
	if info == nil {
		return faultOfCode(failed.Code(), err, timeout)
	}
	return faultOfInfo(info, failed.Message(), retryAfter, err)
}

// What tonic says of a request beyond its limit, and grpc-go of a message beyond one of its own. Neither has a code for
// it alone.
const (
	tonicTooLarge = "message length too large"
	grpcTooLarge  = "message larger than max"
)

// faultOfCode judges a failure that the hot path did not describe: its process or the way to it is what failed.
func faultOfCode(code codes.Code, cause error, timeout time.Duration) *fault.Fault {
	switch code {
	case codes.DeadlineExceeded:
		return &fault.Fault{Reason: fault.DeadlineExceeded, Cause: cause,
			Message: fmt.Sprintf("The request was not done within %v.", timeout)}
	case codes.OutOfRange, codes.ResourceExhausted: // which mean other things too
		if strings.Contains(cause.Error(), tonicTooLarge) || strings.Contains(cause.Error(), grpcTooLarge) {
			return tooLarge(cause)
		}
		return fault.InternalError(cause)
	case codes.Unavailable, codes.Canceled: // Canceled, but not by us: the other side is going down
		return unavailable(cause)
	default:
		return fault.InternalError(cause)
	}
}

// faultOfInfo judges a failure that the hot path described. Its message is written for users, but for what an operator
// has to mend.
func faultOfInfo(info *errdetails.ErrorInfo, message string, retryAfter time.Duration, cause error) *fault.Fault {
	reason := fault.Reason(info.GetReason())
	described := &fault.Fault{
		Reason: reason, Message: message, RetryAfter: retryAfter, Cause: cause, Param: info.GetMetadata()["field"],
		Limit: numberOf(info, "limit"), Actual: numberOf(info, "actual"),
	}
	switch {
	case !reasons[reason]:
		return fault.InternalError(cause)
	case reason == fault.ModelNotReady:
		described.Message = "The model is not ready to serve. Repeat the request later."
	case reason == fault.HotpathUnavailable:
		described = unavailable(cause)
		described.RetryAfter = retryAfter
	}
	return described
}

// numberOf returns a number of an ErrorInfo's metadata; 0 if it has none.
func numberOf(info *errdetails.ErrorInfo, name string) uint64 {
	number, _ := strconv.ParseUint(info.GetMetadata()[name], 10, 64)
	return number
}

// tooLarge is about a message that is within the limit for bodies. Encoded, a request is hardly larger than its body,
// but the hot path's limit may be lower; and a tokenizer may make more tokens than a text has bytes, if it takes single
// characters apart.
func tooLarge(cause error) *fault.Fault {
	return &fault.Fault{Reason: fault.BodyTooLarge, Cause: cause,
		Message: "The request, or the answer to it, is larger than the inference service sends or takes at once. " +
			"Send less at a time."}
}

func unavailable(cause error) *fault.Fault {
	return &fault.Fault{Reason: fault.HotpathUnavailable, Cause: cause,
		Message: "The inference service cannot be reached. Repeat the request later."}
}
