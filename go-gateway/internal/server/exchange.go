package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/openai"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/quota"
)

// handler serves one request: it replies through ex once, or returns an error and does not reply.
type handler func(ex *exchange, r *http.Request) error

// exchange is one request and what becomes of it: what headers, log and metrics tell.
type exchange struct {
	server      *Server
	writer      http.ResponseWriter
	start       time.Time
	route       string
	requestID   string
	traceparent string

	// Filled in as they become known.
	tenant  string
	model   string // set once it is known to exist
	tokens  uint64 // charged
	work    []slog.Attr
	phases  []openai.Phase
	status  int // of the reply; 0 while there is none
	failure *fault.Fault

	charged quota.Limit // what its tenant's rate was charged by; zero while it was not
	drained bool        // no more of the body is worth reading
}

// route makes an http.Handler of a handler: every request gets an id, one reply, one log line and its metrics, also when
// the handler fails or panics.
func (s *Server) route(name string, serve handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ex := &exchange{
			server: s, writer: w, start: time.Now(), route: name,
			requestID:   requestID(r.Header.Get("X-Request-Id")),
			traceparent: traceparent(r.Header.Get("Traceparent")),
		}
		s.Metrics.Inflight.Inc()
		defer s.Metrics.Inflight.Dec()
		defer ex.finish(r)
		defer ex.recoverPanic()
		err := serve(ex, r)
		if err == nil && ex.status == 0 {
			err = errors.New("the handler gave neither a reply nor an error")
		}
		if err != nil {
			s.drain(ex, r)
			ex.fail(err)
		}
	})
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

func (ex *exchange) header() http.Header { return ex.writer.Header() }

// fail replies with an error.
func (ex *exchange) fail(err error) {
	ex.failure = fault.Of(err)
	status, body := openai.RenderError(ex.header(), ex.failure, ex.requestID)
	ex.reply(status, body)
}

// reply writes the whole reply.
func (ex *exchange) reply(status int, body []byte) {
	ex.status = status
	total := time.Since(ex.start)
	header := ex.header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("X-Request-Id", ex.requestID)
	header.Set("Server-Timing", serverTiming(ex.phases, total))
	header.Set("Openai-Processing-Ms", strconv.FormatInt(total.Milliseconds(), 10))
	if ex.server.draining.Load() {
		header.Set("Connection", "close")
	}
	// A client that does not read must not keep us. If the deadline cannot be set, the server's own, longer one holds.
	_ = http.NewResponseController(ex.writer).SetWriteDeadline(time.Now().Add(ex.server.WriteTimeout))
	ex.writer.WriteHeader(status)
	if _, err := ex.writer.Write(body); err != nil && ex.failure == nil { // nobody sees it; log and metrics say so
		ex.status, ex.failure = openai.StatusClientClosedRequest, clientGone(err)
	}
}

func clientGone(cause error) *fault.Fault {
	return &fault.Fault{Reason: fault.Cancelled, Message: "The client went away.", Cause: cause}
}

// serverTiming is the header of that name: where the time went, in milliseconds.
func serverTiming(phases []openai.Phase, total time.Duration) string {
	text := ""
	for _, phase := range phases {
		text += fmt.Sprintf("%s;dur=%.3f, ", phase.Name, milliseconds(phase.Took))
	}
	return text + fmt.Sprintf("total;dur=%.3f", milliseconds(total))
}

// phasesOf says where the time of a request without a stream went.
func phasesOf(timings *inferencev1.Timings) []openai.Phase {
	return []openai.Phase{
		{Name: "tokenize", Took: timings.GetTokenize().AsDuration()},
		{Name: "queue", Took: timings.GetQueue().AsDuration()},
		{Name: "inference", Took: timings.GetInference().AsDuration()},
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// reason is the metrics' and the log's word for the outcome.
func (ex *exchange) reason() string {
	if ex.failure == nil {
		return "OK"
	}
	return fault.Name(ex.failure.Reason)
}

// finish counts and logs the request.
func (ex *exchange) finish(r *http.Request) {
	elapsed := time.Since(ex.start)
	metrics := ex.server.Metrics
	metrics.Requests.WithLabelValues(ex.route, strconv.Itoa(ex.status), ex.reason()).Inc()
	metrics.RequestSeconds.WithLabelValues(ex.route).Observe(elapsed.Seconds())
	if ex.tokens > 0 {
		metrics.Tokens.WithLabelValues(ex.tenant, ex.model).Add(float64(ex.tokens))
	}
	ex.server.Logger.LogAttrs(r.Context(), ex.level(), "request", ex.attributes(r, elapsed)...)
}

// level puts what an operator should look at above the rest, and probes below it.
func (ex *exchange) level() slog.Level {
	switch {
	case ex.failure != nil && ex.failure.Reason == fault.Internal:
		return slog.LevelError
	case ex.failure != nil && ex.status >= http.StatusInternalServerError:
		return slog.LevelWarn
	case ex.route == livezRoute || ex.route == readyzRoute:
		return slog.LevelDebug
	default:
		return slog.LevelInfo
	}
}

// attributes are the access line's. They hold no input and no key, nor messages for users, which may quote them.
func (ex *exchange) attributes(r *http.Request, elapsed time.Duration) []slog.Attr {
	attributes := []slog.Attr{
		slog.String("request_id", ex.requestID),
		slog.String("trace_id", traceID(ex.traceparent)),
		slog.String("method", r.Method),
		slog.String("route", ex.route),
		slog.Int("status", ex.status),
		slog.String("reason", ex.reason()),
		slog.Float64("duration_ms", milliseconds(elapsed)),
	}
	if ex.tenant != "" {
		attributes = append(attributes, slog.String("tenant", ex.tenant))
	}
	if ex.model != "" {
		attributes = append(attributes, slog.String("model", ex.model))
	}
	attributes = append(attributes, ex.work...)
	for _, phase := range ex.phases {
		attributes = append(attributes, slog.Float64(phase.Name+"_ms", milliseconds(phase.Took)))
	}
	if ex.failure != nil && ex.failure.LogParam() != "" {
		attributes = append(attributes, slog.String("param", ex.failure.LogParam()))
	}
	if ex.failure != nil && ex.failure.Cause != nil && ex.status >= http.StatusInternalServerError {
		attributes = append(attributes, slog.Any("cause", ex.failure.Cause))
	}
	return attributes
}
