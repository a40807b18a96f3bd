package server

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/inference"
	"triptych.dev/gateway/internal/openai"
	"triptych.dev/gateway/internal/quota"
)

// Execution is a request of the API for whose reply no client waits: a line of a batch.
type Execution struct {
	Principal identity.Principal
	Class     quota.Class
	RequestID string
	// Endpoint is the path of a route that calls a model.
	Endpoint string
	Body     []byte
	// Pending is charged for it; nil: it is charged when it is settled.
	Pending *quota.Pending
}

// Executed is what a client would have been replied, and what it used.
type Executed struct {
	Status  int
	Body    []byte
	Failure *fault.Fault // nil where it succeeded
	Usage   inference.Usage
}

// NoRoom reports that there was nothing wrong with the request: it was refused by a limit, or for lack of room or of a
// model, and may succeed later.
func (e *Executed) NoRoom() bool {
	return e.Failure != nil && openai.Retryable(e.Failure.Reason) && e.Failure.Reason != fault.Internal
}

// Execute serves a request as its route would serve a client's: the same decoding, limits of the plan, errors and rendering.
// What shares out connections among clients does not count for it: slots, bytes of bodies, how fast a client may knock. Nor
// is it one of the HTTP requests of metrics and log. It has the time that its context has.
func (s *Server) Execute(ctx context.Context, execution Execution) Executed {
	var reply recorder
	request := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: execution.Endpoint}, Header: http.Header{}}
	ex := &exchange{
		server: s, writer: &reply, start: time.Now(), route: execution.Endpoint,
		usage: &inference.Usage{}, requestID: execution.RequestID, body: execution.Body, principal: execution.Principal,
		class: execution.Class, pending: execution.Pending, detached: true,
	}
	ex.joinTrace(ctx, request)
	ex.run(s.call(execution.Endpoint))
	ex.settle(time.Since(ex.start))
	return Executed{ex.status, reply.body.Bytes(), ex.failure, *ex.usage}
}

// call serves an endpoint without a client.
func (s *Server) call(endpoint string) handler {
	return func(ex *exchange) error {
		serve, known := s.calls[endpoint]
		if !known {
			return fault.New(fault.RouteNotFound, "%.100q is no path of a model's call.", endpoint)
		}
		if len(ex.body) > s.MaxBodyBytes {
			return s.bodyTooLarge(ex)
		}
		return serve(ex)
	}
}

// CallsModel reports whether an endpoint is one that Execute serves.
func (s *Server) CallsModel(endpoint string) bool { return s.calls[endpoint] != nil }

// checkEndpoint refuses an endpoint that is to be called later, and that Execute does not serve.
func (s *Server) checkEndpoint(endpoint string) error {
	if s.CallsModel(endpoint) {
		return nil
	}
	return fault.InField(fault.InvalidValue, "endpoint", "endpoint must be one of %s, not %.64q.",
		fault.Listed(slices.Sorted(maps.Keys(s.calls)), 0), endpoint)
}

// modelCalls are the handlers of the routes that call a model, by path.
func (s *Server) modelCalls() map[string]handler {
	calls := map[string]handler{}
	for _, r := range s.routes() {
		if r.body == jsonBody {
			calls[r.pattern] = permit(r.endpoint())(r.serve)
		}
	}
	return calls
}

// recorder keeps a reply. What a handler writes may be used again after it.
type recorder struct {
	header http.Header
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header {
	if r.header == nil {
		r.header = http.Header{}
	}
	return r.header
}

func (r *recorder) WriteHeader(int) {}

func (r *recorder) Write(body []byte) (int, error) { return r.body.Write(body) }
