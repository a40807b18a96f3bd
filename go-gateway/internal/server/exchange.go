package server

import (
	"net/http"
	"strconv"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/inference"
	"triptych.dev/gateway/internal/openai"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/telemetry"
	"triptych.dev/gateway/internal/tracing"
)

// exchange is one request and what becomes of it: what headers, log and metrics tell.
type exchange struct {
	server      *Server
	writer      http.ResponseWriter
	request     *http.Request
	start       time.Time
	route       string
	requestID   string
	traceparent string        // what calls are told of its trace
	span        *tracing.Span // nil: nothing is recorded

	// Filled in as they become known.
	body      []byte             // of a route with one
	principal identity.Principal // zero while nobody is known
	class     quota.Class        // the highest that its calls may have
	pending   *quota.Pending     // of the durable work that its calls are a part of; may be nil
	detached  bool               // no client waits: see Execute
	checking  bool               // nothing is run: see Server.check
	usage     *inference.Usage   // what the hot path does for it
	status    int                // of the reply; 0 while there is none
	failure   *fault.Fault

	timeout     time.Duration // of the request's own; 0: none
	held        int64         // bytes of bodies
	limitsAsked bool          // what its limits say is known
	drained     bool          // no more of the body is worth reading
}

// call is the request without HTTP.
func (ex *exchange) call() inference.Call {
	ahead := 0.0
	if ex.timeout > 0 {
		ahead = ex.server.slots.Ahead(ex.principal.Tenant)
	}
	return inference.Call{
		CheckOnly: ex.checking,
		Ahead:     ahead, Principal: ex.principal, Priority: ex.class, Pending: ex.pending, RequestID: ex.requestID, Traceparent: ex.traceparent,
		Decided: func(limits inference.RateLimits) {
			ex.limitsAsked = true
			ex.setRateLimits(limits)
		},
	}
}

func (ex *exchange) header() http.Header { return ex.writer.Header() }

// fail replies with an error.
func (ex *exchange) fail(err error) {
	ex.failure = fault.Of(err)
	ex.tellLimits()
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
	header.Set("Server-Timing", serverTiming(ex.usage.Timings(), total))
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
func serverTiming(phases []telemetry.Phase, total time.Duration) string {
	text := make([]byte, 0, 128) // as many as there usually are
	for _, phase := range phases {
		text = append(appendTiming(text, phase.Name, phase.Took), ", "...)
	}
	return string(appendTiming(text, "total", total))
}

func appendTiming(text []byte, name string, took time.Duration) []byte {
	text = append(append(text, name...), ";dur="...)
	return strconv.AppendFloat(text, telemetry.Milliseconds(took), 'f', 3, 64)
}
