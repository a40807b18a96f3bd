package testkit

import (
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"triptych.dev/gateway/internal/fault"
)

// Refusal is an error as the hot path sends it. numbers are its limit and what there was, where it tells them.
func Refusal(reason fault.Reason, field, message string, numbers ...int) error {
	return RefusalWith(codeOf(reason), string(reason), field, message, 0, numbers...)
}

// refuse is a Refusal that says what is wrong with a field.
func refuse(reason fault.Reason, field, problem string, numbers ...int) error {
	return Refusal(reason, field, "`"+field+"` "+problem, numbers...)
}

// FullQueue is a refusal for lack of room, with how long what the key has waiting takes.
func FullQueue(waiting, retry time.Duration) error {
	metadata := map[string]string{"waiting_ms": strconv.FormatInt(waiting.Milliseconds(), 10)}
	return described(codes.Unavailable, string(fault.QueueFull), "the queue is full", retry, metadata)
}

// RefusalWith is an error whose every part can be chosen, also wrongly. retry 0 = none.
func RefusalWith(code codes.Code, reason, field, message string, retry time.Duration, numbers ...int) error {
	metadata := map[string]string{"field": field}
	for i, number := range numbers {
		metadata[[]string{"limit", "actual"}[i]] = strconv.Itoa(number)
	}
	return described(code, reason, message, retry, metadata)
}

func described(code codes.Code, reason, message string, retry time.Duration, metadata map[string]string) error {
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Domain: "triptych.dev", Reason: reason, Metadata: metadata}}
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
