package server

import (
	"context"
	"net/http"

	"triptych.dev/gateway/internal/tracing"
)

// beginTrace begins the request's span, if it is to be recorded. A trace that is not is handed on as it came.
func (ex *exchange) beginTrace() {
	r := ex.request
	sent := traceparent(r.Header.Get("Traceparent"))
	if ex.isPolled() {
		ex.traced(nil, sent)
		return
	}
	route := ex.route
	if route == unknownRoute {
		route = ""
	}
	ctx, span := ex.server.Tracer.Request(r.Context(), sent, tracing.Request{
		Method: r.Method, Route: route, TLS: r.TLS != nil, ProtocolMajor: r.ProtoMajor, ProtocolMinor: r.ProtoMinor,
	})
	if span != nil {
		ex.request = r.WithContext(ctx)
	}
	ex.traced(span, sent)
}

// joinTrace begins the span of a request that no client waits for, in the trace of what it is a part of.
func (ex *exchange) joinTrace(ctx context.Context, request *http.Request) {
	ctx, span := ex.server.Tracer.Execution(ctx, ex.route)
	ex.request = request.WithContext(ctx)
	ex.traced(span, "")
}

// traced notes the request's span, and what calls are told of its trace if it has none.
func (ex *exchange) traced(span *tracing.Span, sent string) {
	ex.span, ex.traceparent = span, sent
	if span != nil {
		ex.traceparent = span.Traceparent()
	}
	if ex.traceparent == "" {
		ex.traceparent = newTraceparent()
	}
}

// endTrace ends the request's span.
func (ex *exchange) endTrace() {
	ex.span.EndRequest(tracing.Reply{
		Status: ex.status, Outcome: ex.reason(), RequestID: ex.requestID, Tenant: ex.principal.Tenant,
	})
}
