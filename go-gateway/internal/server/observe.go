package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"triptych.dev/gateway/internal/adminapi"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/inference"
	"triptych.dev/gateway/internal/telemetry"
)

// observe makes an http.Handler of a handler: every request gets an id, one reply, one log line and its metrics, also
// when the handler fails or panics.
func (s *Server) observe(route string, serve handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ex := &exchange{
			server: s, writer: w, request: r, start: time.Now(), route: route, usage: &inference.Usage{},
			requestID: requestID(r.Header.Get("X-Request-Id")),
		}
		ex.beginTrace()
		ex.liftWriteDeadline() // the server's own, which is shorter than a long generation
		s.Metrics.Inflight.Inc()
		defer s.Metrics.Inflight.Dec()
		defer ex.finish()
		ex.run(serve)
	})
}

// run lets a handler reply, and replies for it if it fails or panics.
func (ex *exchange) run(serve handler) {
	defer ex.recoverPanic()
	err := serve(ex)
	if err == nil && ex.status == 0 {
		err = errors.New("the handler gave neither a reply nor an error")
	}
	if err != nil {
		ex.server.drain(ex)
		ex.fail(err)
	}
}

// recoverPanic makes a panic this request's error, and nobody else's.
func (ex *exchange) recoverPanic() {
	panicked := recover()
	if panicked == nil {
		return
	}
	cause := fault.InternalError(fmt.Errorf("panic: %v\n%s", panicked, debug.Stack()))
	if ex.status == 0 {
		ex.fail(cause)
		return
	}
	// Half a reply is out, with another status: log and metrics must say that it failed, and the client must see it.
	ex.status, ex.failure = http.StatusInternalServerError, cause
	panic(http.ErrAbortHandler)
}

// reason is the metrics' and the log's word for the outcome.
func (ex *exchange) reason() string {
	if ex.failure == nil {
		return "OK"
	}
	return string(ex.failure.Reason)
}

// finish settles, counts and logs the request.
func (ex *exchange) finish() {
	elapsed := time.Since(ex.start)
	metrics := ex.server.Metrics
	metrics.Requests.WithLabelValues(ex.route, strconv.Itoa(ex.status), ex.reason()).Inc()
	telemetry.Observe(metrics.RequestSeconds.WithLabelValues(ex.route), elapsed, ex.span.TraceID())
	ex.settle(elapsed)
}

// settle charges the request, counts it as its tenant's, logs it, and ends its span.
func (ex *exchange) settle(elapsed time.Duration) {
	if tenant := ex.principal.Tenant; tenant != "" {
		ex.server.Metrics.Tenants.Ended(tenant)
	}
	ex.server.Inference.Settle(ex.request.Context(), ex.principal, *ex.usage, ex.failure)
	ex.server.Logger.LogAttrs(ex.request.Context(), ex.level(), "request", ex.attributes(elapsed)...)
	ex.endTrace()
}

// level puts what an operator should look at above the rest, and below it what machines ask each second.
func (ex *exchange) level() slog.Level {
	switch {
	case ex.failure != nil && ex.failure.Reason == fault.Internal:
		return slog.LevelError
	case ex.failure != nil && ex.status >= http.StatusInternalServerError && !ex.detached:
		return slog.LevelWarn
	case ex.isPolled() || ex.detached:
		return slog.LevelDebug
	default:
		return slog.LevelInfo
	}
}

// isPolled reports whether machines ask for it each second.
func (ex *exchange) isPolled() bool {
	return ex.route == livezRoute || ex.route == readyzRoute || ex.route == adminapi.OverviewPath
}

// attributes are the access line's. They hold no input and no key, nor messages for users, which may quote them.
func (ex *exchange) attributes(elapsed time.Duration) []slog.Attr {
	attributes := []slog.Attr{
		slog.String("request_id", ex.requestID),
		slog.String("trace_id", traceID(ex.traceparent)),
		slog.String("method", ex.request.Method),
		slog.String("route", ex.route),
		slog.Int("status", ex.status),
		slog.String("reason", ex.reason()),
		slog.Float64("duration_ms", telemetry.Milliseconds(elapsed)),
	}
	if ex.principal.Tenant != "" {
		attributes = append(attributes, slog.String("tenant", ex.principal.Tenant))
	}
	attributes = append(attributes, ex.usage.LogAttrs()...)
	if ex.failure != nil && ex.failure.LogParam() != "" {
		attributes = append(attributes, slog.String("param", ex.failure.LogParam()))
	}
	if ex.failure != nil && ex.failure.Cause != nil &&
		(ex.status >= http.StatusInternalServerError || ex.failure.Reason == fault.InvalidAPIKey) { // why, which is told to nobody else
		attributes = append(attributes, slog.Any("cause", ex.failure.Cause))
	}
	return attributes
}
