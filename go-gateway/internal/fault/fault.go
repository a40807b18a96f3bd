// Package fault is the gateway's one error type: a reason, with words for the user and a cause for the log.
//
// Whatever can refuse a request returns a *Fault; only package openai knows what it looks like over HTTP. This package
// must not depend on HTTP, JSON, gRPC or the contract.
package fault

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Reason says why a request was refused or failed, by the name that docs/errors.md, logs and metrics have for it.
type Reason string

// All reasons, in the order of docs/errors.md.
const (
	MissingAPIKey         Reason = "MISSING_API_KEY"
	InvalidAPIKey         Reason = "INVALID_API_KEY"
	InsufficientScope     Reason = "INSUFFICIENT_SCOPE"
	RouteNotFound         Reason = "ROUTE_NOT_FOUND"
	MethodNotAllowed      Reason = "METHOD_NOT_ALLOWED"
	BodyTooLarge          Reason = "BODY_TOO_LARGE"
	BodyTimeout           Reason = "BODY_TIMEOUT"
	InvalidJSON           Reason = "INVALID_JSON"
	InvalidUTF8           Reason = "INVALID_UTF8"
	InvalidValue          Reason = "INVALID_VALUE"
	MissingField          Reason = "MISSING_FIELD"
	UnsupportedParameter  Reason = "UNSUPPORTED_PARAMETER"
	ModelNotFound         Reason = "MODEL_NOT_FOUND"
	ModelTaskMismatch     Reason = "MODEL_TASK_MISMATCH"
	FileNotFound          Reason = "FILE_NOT_FOUND"
	RangeNotSatisfiable   Reason = "RANGE_NOT_SATISFIABLE"
	BatchNotFound         Reason = "BATCH_NOT_FOUND"
	BatchEnded            Reason = "BATCH_ENDED"
	JobNotFound           Reason = "JOB_NOT_FOUND"
	JobEnded              Reason = "JOB_ENDED"
	ReviewNotFound        Reason = "REVIEW_NOT_FOUND"
	ReviewDecided         Reason = "REVIEW_DECIDED"
	IdempotencyKeyReused  Reason = "IDEMPOTENCY_KEY_REUSED"
	IdempotencyInFlight   Reason = "IDEMPOTENCY_IN_FLIGHT"
	WebhookNotFound       Reason = "WEBHOOK_NOT_FOUND"
	EmptyInput            Reason = "EMPTY_INPUT"
	InputTooLong          Reason = "INPUT_TOO_LONG"
	TooManyInputs         Reason = "TOO_MANY_INPUTS"
	TokenIDOutOfRange     Reason = "TOKEN_ID_OUT_OF_RANGE"
	TokenizerMismatch     Reason = "TOKENIZER_MISMATCH"
	DimensionsUnsupported Reason = "DIMENSIONS_UNSUPPORTED"
	RequestTooLarge       Reason = "REQUEST_TOO_LARGE"
	ChargeTooHigh         Reason = "CHARGE_TOO_HIGH"
	RateLimited           Reason = "RATE_LIMITED"
	ConcurrencyLimited    Reason = "CONCURRENCY_LIMITED"
	StorageLimited        Reason = "STORAGE_LIMITED"
	StorageFull           Reason = "STORAGE_FULL"
	StorageUnavailable    Reason = "STORAGE_UNAVAILABLE"
	NotEnabled            Reason = "NOT_ENABLED"
	BatchLimited          Reason = "BATCH_LIMITED"
	QueueFull             Reason = "QUEUE_FULL"
	DeadlineExceeded      Reason = "DEADLINE_EXCEEDED"
	HotpathUnavailable    Reason = "HOTPATH_UNAVAILABLE"
	ModelNotReady         Reason = "MODEL_NOT_READY"
	Cancelled             Reason = "CANCELLED"
	SlowReader            Reason = "SLOW_READER"
	Internal              Reason = "INTERNAL"
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
	// Limit and Actual are the numbers in question, in the reason's unit; 0 = not known.
	Limit, Actual uint64
	// RetryAfter is when repeating may help; 0 = not known.
	RetryAfter time.Duration
	// CutOff says that the hot path went away while it may have been working on the request: for its sake, maybe.
	CutOff bool
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

// Listed lists names, as in `"a", "b" and 3 more`.
func Listed(names []string, more int) string {
	text := ""
	for i, name := range names {
		if i > 0 {
			text += ", "
		}
		text += strconv.Quote(name)
	}
	if more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
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

// Outcome is the word for how something ended that logs, metrics and traces have: "OK", or why it failed.
func Outcome(err error) string {
	if err == nil {
		return "OK"
	}
	return string(Of(err).Reason)
}

// LogParam is Param for the log: as far as the names in it are ours.
func (f *Fault) LogParam() string {
	return strings.TrimSuffix(f.Param[:len(f.Param)-f.Quoted], ".")
}

// Error is for logs; it includes the cause.
func (f *Fault) Error() string {
	text := string(f.Reason) + ": " + f.Message
	if f.Cause != nil {
		text += ": " + f.Cause.Error()
	}
	return text
}

func (f *Fault) Unwrap() error { return f.Cause }
