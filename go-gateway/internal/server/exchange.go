package server

import (
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/openai"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/quota"
)

// exchange is one request and what becomes of it: what headers, log and metrics tell.
type exchange struct {
	server      *Server
	writer      http.ResponseWriter
	request     *http.Request
	start       time.Time
	route       string
	requestID   string
	traceparent string

	// Filled in as they become known.
	body      []byte             // of a route with one
	principal identity.Principal // zero while nobody is known
	model     string             // set once it is known to exist
	tokens    uint64             // charged
	work      []slog.Attr
	phases    []openai.Phase
	status    int // of the reply; 0 while there is none
	failure   *fault.Fault

	held    int64       // bytes of bodies
	charged quota.Limit // what its tenant's rate was charged by; zero while it was not
	drained bool        // no more of the body is worth reading
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
