package testkit

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"triptych.dev/gateway/internal/fault"
)

// Refusal is an error as the hot path sends it.
func Refusal(reason fault.Reason, field, message string) error {
	return RefusalWith(codeOf(reason), fault.Name(reason), field, message, 0)
}

// RefusalWith is an error whose every part can be chosen, also wrongly. retry 0 = none.
func RefusalWith(code codes.Code, reason, field, message string, retry time.Duration) error {
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{
		Domain: "triptych.dev", Reason: reason, Metadata: map[string]string{"field": field},
	}}
	if retry > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(retry)})
	}
	described, err := status.New(code, message).WithDetails(details...)
	if err != nil {
		panic(err)
	}
	return described.Err()
}

func codeOf(reason fault.Reason) codes.Code {
	switch reason {
	case fault.ModelNotFound:
		return codes.NotFound
	case fault.ModelTaskMismatch:
		return codes.FailedPrecondition
	case fault.QueueFull, fault.ModelNotReady, fault.HotpathUnavailable:
		return codes.Unavailable
	case fault.DeadlineExceeded:
		return codes.DeadlineExceeded
	case fault.SlowReader:
		return codes.Aborted
	case fault.Internal:
		return codes.Internal
	default:
		return codes.InvalidArgument
	}
}
