package openai

import (
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
)

// OpenAI's error types.
const (
	typeAuthentication = "authentication_error"
	typePermission     = "permission_error"
	typeInvalidRequest = "invalid_request_error"
	typeRateLimit      = "rate_limit_error"
	typeOverloaded     = "overloaded_error"
	typeTimeout        = "timeout_error"
	typeServer         = "server_error"
)

// StatusClientClosedRequest is nobody's standard and everybody's habit: the client went away. No client sees it.
const StatusClientClosedRequest = 499

// row is how one reason looks over HTTP.
type row struct {
	status    int
	errorType string
	code      string
	retry     bool // whether a later attempt may succeed
}

// table is docs/errors.md in code; a test compares each column, both ways.
var table = map[fault.Reason]row{
	fault.MissingAPIKey:         {http.StatusUnauthorized, typeAuthentication, "missing_api_key", false},
	fault.InvalidAPIKey:         {http.StatusUnauthorized, typeAuthentication, "invalid_api_key", false},
	fault.InsufficientScope:     {http.StatusForbidden, typePermission, "insufficient_scope", false},
	fault.RouteNotFound:         {http.StatusNotFound, typeInvalidRequest, "route_not_found", false},
	fault.MethodNotAllowed:      {http.StatusMethodNotAllowed, typeInvalidRequest, "method_not_allowed", false},
	fault.BodyTooLarge:          {http.StatusRequestEntityTooLarge, typeInvalidRequest, "body_too_large", false},
	fault.BodyTimeout:           {http.StatusRequestTimeout, typeInvalidRequest, "body_timeout", false},
	fault.InvalidJSON:           {http.StatusBadRequest, typeInvalidRequest, "invalid_json", false},
	fault.InvalidUTF8:           {http.StatusBadRequest, typeInvalidRequest, "invalid_utf8", false},
	fault.InvalidValue:          {http.StatusBadRequest, typeInvalidRequest, "invalid_value", false},
	fault.MissingField:          {http.StatusBadRequest, typeInvalidRequest, "missing_field", false},
	fault.UnsupportedParameter:  {http.StatusBadRequest, typeInvalidRequest, "unsupported_parameter", false},
	fault.ModelNotFound:         {http.StatusNotFound, typeInvalidRequest, "model_not_found", false},
	fault.ModelTaskMismatch:     {http.StatusBadRequest, typeInvalidRequest, "model_task_mismatch", false},
	fault.FileNotFound:          {http.StatusNotFound, typeInvalidRequest, "file_not_found", false},
	fault.RangeNotSatisfiable:   {http.StatusRequestedRangeNotSatisfiable, typeInvalidRequest, "range_not_satisfiable", false},
	fault.BatchNotFound:         {http.StatusNotFound, typeInvalidRequest, "batch_not_found", false},
	fault.BatchEnded:            {http.StatusConflict, typeInvalidRequest, "batch_ended", false},
	fault.JobNotFound:           {http.StatusNotFound, typeInvalidRequest, "job_not_found", false},
	fault.JobEnded:              {http.StatusConflict, typeInvalidRequest, "job_ended", false},
	fault.ReviewNotFound:        {http.StatusNotFound, typeInvalidRequest, "review_not_found", false},
	fault.ReviewDecided:         {http.StatusConflict, typeInvalidRequest, "review_decided", false},
	fault.IdempotencyKeyReused:  {http.StatusConflict, typeInvalidRequest, "idempotency_key_reused", false},
	fault.IdempotencyInFlight:   {http.StatusConflict, typeInvalidRequest, "idempotency_in_flight", true},
	fault.WebhookNotFound:       {http.StatusNotFound, typeInvalidRequest, "webhook_not_found", false},
	fault.EmptyInput:            {http.StatusBadRequest, typeInvalidRequest, "empty_input", false},
	fault.InputTooLong:          {http.StatusBadRequest, typeInvalidRequest, "context_length_exceeded", false},
	fault.TooManyInputs:         {http.StatusBadRequest, typeInvalidRequest, "too_many_inputs", false},
	fault.TokenIDOutOfRange:     {http.StatusBadRequest, typeInvalidRequest, "token_id_out_of_range", false},
	fault.TokenizerMismatch:     {http.StatusBadRequest, typeInvalidRequest, "tokenizer_mismatch", false},
	fault.DimensionsUnsupported: {http.StatusBadRequest, typeInvalidRequest, "dimensions_unsupported", false},
	fault.RequestTooLarge:       {http.StatusBadRequest, typeInvalidRequest, "request_too_large", false},
	fault.ChargeTooHigh:         {http.StatusTooManyRequests, typeRateLimit, "charge_too_high", false},
	fault.RateLimited:           {http.StatusTooManyRequests, typeRateLimit, "rate_limit_exceeded", true},
	fault.ConcurrencyLimited:    {http.StatusTooManyRequests, typeRateLimit, "concurrency_limit_exceeded", true},
	fault.StorageLimited:        {http.StatusTooManyRequests, typeRateLimit, "storage_limit_exceeded", false},
	fault.StorageFull:           {http.StatusInsufficientStorage, typeOverloaded, "storage_full", false},
	fault.StorageUnavailable:    {http.StatusServiceUnavailable, typeOverloaded, "storage_unavailable", true},
	fault.NotEnabled:            {http.StatusNotImplemented, typeInvalidRequest, "not_enabled", false},
	fault.BatchLimited:          {http.StatusTooManyRequests, typeRateLimit, "token_limit_exceeded", false},
	fault.QueueFull:             {http.StatusServiceUnavailable, typeOverloaded, "queue_full", true},
	fault.DeadlineExceeded:      {http.StatusGatewayTimeout, typeTimeout, "deadline_exceeded", false},
	fault.HotpathUnavailable:    {http.StatusServiceUnavailable, typeOverloaded, "hotpath_unavailable", true},
	fault.ModelNotReady:         {http.StatusServiceUnavailable, typeOverloaded, "model_not_ready", true},
	fault.Cancelled:             {StatusClientClosedRequest, typeInvalidRequest, "cancelled", false},
	fault.SlowReader:            {http.StatusRequestTimeout, typeTimeout, "slow_reader", false},
	fault.Internal:              {http.StatusInternalServerError, typeServer, "internal_error", true},
}

// Retryable reports whether a later attempt of what was refused for a reason may succeed.
func Retryable(reason fault.Reason) bool { return table[reason].retry }

// Bounds of what we ask a client to wait. The official SDKs ignore more than a minute and take fractions from
// retry-after-ms alone.
const (
	minRetryAfter = time.Second
	maxRetryAfter = time.Minute
)

type errorBody struct {
	Error errorObject `json:"error"`
}

type errorObject struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"` // null where no field is at fault
	Code    string  `json:"code"`
}

// RenderError returns the reply to a request that failed: status, body, and the headers that say when to repeat it are
// set in header. requestID is where the user can point us to.
func RenderError(header http.Header, failure *fault.Fault, requestID string) (status int, body []byte) {
	shape, known := table[failure.Reason]
	if !known {
		shape = table[fault.Internal]
	}
	object := errorObject{Message: failure.Message, Type: shape.errorType, Code: shape.code}
	if failure.Param != "" {
		object.Param = &failure.Param
	}
	if shape.errorType == typeServer {
		object.Message = "Something went wrong on our side; our log has the cause under request id " + requestID + "."
		object.Param = nil
	}
	setRetryHeaders(header, shape, failure)
	switch shape.status {
	case http.StatusUnauthorized:
		header.Set("WWW-Authenticate", "Bearer")
	case http.StatusForbidden: // RFC 6750, section 3.1
		header.Set("WWW-Authenticate", `Bearer error="insufficient_scope"`)
	}
	body, err := json.Marshal(errorBody{object}, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic(err) // strings always encode
	}
	return shape.status, body
}

// setRetryHeaders tells SDKs when, and whether, to repeat.
func setRetryHeaders(header http.Header, shape row, failure *fault.Fault) {
	switch {
	case !shape.retry && sdkRepeats(shape.status):
		header.Set("X-Should-Retry", "false")
	case shape.status == http.StatusTooManyRequests, shape.status == http.StatusServiceUnavailable, shape.status == http.StatusConflict:
		after := failure.RetryAfter
		if after <= 0 {
			after = minRetryAfter
		}
		if after > maxRetryAfter && failure.Reason == fault.RateLimited { // it is true, and the message says it; others are estimates
			header.Set("X-Should-Retry", "false")
		}
		after = min(after, maxRetryAfter)
		seconds := math.Ceil(max(after, minRetryAfter).Seconds())
		header.Set("Retry-After", strconv.Itoa(int(seconds)))
		header.Set("Retry-After-Ms", strconv.FormatInt(ceilMilliseconds(after), 10))
	}
}

// sdkRepeats reports whether the official SDKs repeat a request after this status by themselves.
func sdkRepeats(status int) bool {
	return status == http.StatusRequestTimeout || status == http.StatusConflict ||
		status == http.StatusTooManyRequests || status >= http.StatusInternalServerError
}

// ceilMilliseconds rounds up: a client that waits exactly this long must not come too early.
func ceilMilliseconds(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}
