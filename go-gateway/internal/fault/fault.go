// Package fault is the gateway's one error type: a reason of the contract, with words for the user and a cause for the
// log.
//
// Whatever can refuse a request returns a *Fault; only package openai knows what it looks like over HTTP. This package
// must not depend on HTTP, JSON or gRPC.
package fault

import (
	"errors"
	"fmt"
	"strings"
	"time"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

// Reason says why a request was refused or failed; docs/errors.md lists them all.
type Reason = inferencev1.ErrorReason

// The contract's reasons under short names.
const (
	MissingAPIKey         = inferencev1.ErrorReason_ERROR_REASON_MISSING_API_KEY
	InvalidAPIKey         = inferencev1.ErrorReason_ERROR_REASON_INVALID_API_KEY
	RouteNotFound         = inferencev1.ErrorReason_ERROR_REASON_ROUTE_NOT_FOUND
	MethodNotAllowed      = inferencev1.ErrorReason_ERROR_REASON_METHOD_NOT_ALLOWED
	BodyTooLarge          = inferencev1.ErrorReason_ERROR_REASON_BODY_TOO_LARGE
	BodyTimeout           = inferencev1.ErrorReason_ERROR_REASON_BODY_TIMEOUT
	InvalidJSON           = inferencev1.ErrorReason_ERROR_REASON_INVALID_JSON
	InvalidUTF8           = inferencev1.ErrorReason_ERROR_REASON_INVALID_UTF8
	InvalidValue          = inferencev1.ErrorReason_ERROR_REASON_INVALID_VALUE
	MissingField          = inferencev1.ErrorReason_ERROR_REASON_MISSING_FIELD
	UnsupportedParameter  = inferencev1.ErrorReason_ERROR_REASON_UNSUPPORTED_PARAMETER
	ModelNotFound         = inferencev1.ErrorReason_ERROR_REASON_MODEL_NOT_FOUND
	ModelTaskMismatch     = inferencev1.ErrorReason_ERROR_REASON_MODEL_TASK_MISMATCH
	EmptyInput            = inferencev1.ErrorReason_ERROR_REASON_EMPTY_INPUT
	InputTooLong          = inferencev1.ErrorReason_ERROR_REASON_INPUT_TOO_LONG
	TooManyInputs         = inferencev1.ErrorReason_ERROR_REASON_TOO_MANY_INPUTS
	TokenIDOutOfRange     = inferencev1.ErrorReason_ERROR_REASON_TOKEN_ID_OUT_OF_RANGE
	TokenizerMismatch     = inferencev1.ErrorReason_ERROR_REASON_TOKENIZER_MISMATCH
	DimensionsUnsupported = inferencev1.ErrorReason_ERROR_REASON_DIMENSIONS_UNSUPPORTED
	RateLimited           = inferencev1.ErrorReason_ERROR_REASON_RATE_LIMITED
	QueueFull             = inferencev1.ErrorReason_ERROR_REASON_QUEUE_FULL
	DeadlineExceeded      = inferencev1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED
	HotpathUnavailable    = inferencev1.ErrorReason_ERROR_REASON_HOTPATH_UNAVAILABLE
	ModelNotReady         = inferencev1.ErrorReason_ERROR_REASON_MODEL_NOT_READY
	Cancelled             = inferencev1.ErrorReason_ERROR_REASON_CANCELLED
	SlowReader            = inferencev1.ErrorReason_ERROR_REASON_SLOW_READER
	Internal              = inferencev1.ErrorReason_ERROR_REASON_INTERNAL
)

// Fault is why a request gets no answer.
type Fault struct {
	// Reason decides status, type and code.
	Reason Reason
	// Message is shown to the user. It must name the limit or the remedy, and nothing of how we work inside.
	Message string
	// Param is the request's field at fault, as in "input[1]"; empty where it is none.
	Param string
	// Quoted is how many bytes at Param's end are the client's own text, which is not for the log.
	Quoted int
	// RetryAfter is when repeating may help; 0 = not known.
	RetryAfter time.Duration
	// Cause is for the log alone; may be nil.
	Cause error
}

// New returns a Fault without a field.
func New(reason Reason, format string, args ...any) *Fault {
	return &Fault{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// InField returns a Fault of one field of the request.
func InField(reason Reason, param, format string, args ...any) *Fault {
	return &Fault{Reason: reason, Param: param, Message: fmt.Sprintf(format, args...)}
}

// InternalError returns a fault of ours: the user is told nothing, the log everything.
func InternalError(cause error) *Fault {
	return &Fault{Reason: Internal, Message: "Something went wrong on our side.", Cause: cause}
}

// Of returns err as a Fault. An error that is none is a fault of ours.
func Of(err error) *Fault {
	if found, ok := errors.AsType[*Fault](err); ok {
		return found
	}
	return InternalError(err)
}

// LogParam is Param for the log: as far as the names in it are ours.
func (f *Fault) LogParam() string {
	return strings.TrimSuffix(f.Param[:len(f.Param)-f.Quoted], ".")
}

// Error is for logs; it includes the cause.
func (f *Fault) Error() string {
	text := Name(f.Reason) + ": " + f.Message
	if f.Cause != nil {
		text += ": " + f.Cause.Error()
	}
	return text
}

func (f *Fault) Unwrap() error { return f.Cause }

const namePrefix = "ERROR_REASON_"

// Name returns a reason's name as docs/errors.md and ErrorInfo have it.
func Name(reason Reason) string {
	return strings.TrimPrefix(reason.String(), namePrefix)
}

// ReasonNamed returns the reason of a name; false for a name that is not of the contract.
func ReasonNamed(name string) (Reason, bool) {
	value, ok := inferencev1.ErrorReason_value[namePrefix+name]
	return Reason(value), ok && value != 0
}
