// Package tracing says where the time of a request or a job went: spans, which a collector takes by OTLP.
//
// Whoever has a span in its context begins spans below it by Start; whoever has none gets none, at no cost. So only what
// begins a trace knows a Tracer, which decides whether it is recorded. A span has no attributes but what the methods of this
// package give it, so no text, key or token gets into one. How OpenTelemetry calls things is in conventions.go and genai.go.
//
// It must not depend on what the gateway does, so that all of it may use it.
package tracing

import (
	"context"
	"encoding/hex"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// OK is the outcome of what succeeded; any other one is a reason of docs/errors.md, or what became of a job.
const OK = "OK"

// Span is a part of a trace that is recorded. Of a nil one nothing is, and all of its methods may be called.
type Span struct{ otel trace.Span }

// From returns the span of a context; nil if it has none that is recorded.
func From(ctx context.Context) *Span {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		return &Span{span}
	}
	return nil
}

// Start begins a span below the one of ctx; where ctx has none, there is none. It must be ended.
func Start(ctx context.Context, name string) (context.Context, *Span) {
	return start(ctx, name, trace.SpanKindInternal)
}

func start(ctx context.Context, name string, kind trace.SpanKind) (context.Context, *Span) {
	above := trace.SpanFromContext(ctx)
	if !above.IsRecording() {
		return ctx, nil
	}
	ctx, span := above.TracerProvider().Tracer(scope).Start(ctx, name, trace.WithSpanKind(kind))
	return ctx, &Span{span}
}

// Event notes that something has happened. Its name must be one of a bounded number.
func (s *Span) Event(name string) {
	if s != nil {
		s.otel.AddEvent(name)
	}
}

// End ends a span with what came of it. Once it has ended, nothing changes it.
func (s *Span) End(outcome string) {
	if s == nil {
		return
	}
	s.failed(outcome)
	s.otel.End()
}

// failed marks a span as one that did not succeed, for a reason that is one of a bounded number. OpenTelemetry would have a
// description too: that may quote what a client sent, so there is none.
func (s *Span) failed(reason string) {
	if reason != OK {
		s.set(errorType(reason))
		s.otel.SetStatus(codes.Error, "")
	}
}

func (s *Span) set(attributes ...attribute.KeyValue) { s.otel.SetAttributes(attributes...) }

// Traceparent returns a span as what it causes elsewhere is told of it, in W3C Trace Context; empty of a nil one.
func (s *Span) Traceparent() string {
	if s == nil {
		return ""
	}
	context := s.otel.SpanContext()
	return "00-" + context.TraceID().String() + "-" + context.SpanID().String() + "-" + context.TraceFlags().String()
}

// TraceID returns the id of a span's trace, in hexadecimal digits; empty of a nil one.
func (s *Span) TraceID() string {
	if s == nil {
		return ""
	}
	return s.otel.SpanContext().TraceID().String()
}

// parse returns the span that a trace context of version 00 names, which is somewhere else; the zero one if it names none.
// Of one that is not to be recorded it allocates nothing: most are not.
func parse(traceparent string) trace.SpanContext {
	const trace0, span0, flags0, end = 3, 36, 53, 55
	if len(traceparent) != end {
		return trace.SpanContext{}
	}
	traceID, wrong := trace.TraceIDFromHex(traceparent[trace0 : span0-1])
	spanID, alsoWrong := trace.SpanIDFromHex(traceparent[span0 : flags0-1])
	var flags [1]byte
	if _, err := hex.Decode(flags[:], []byte(traceparent[flags0:])); err != nil || wrong != nil || alsoWrong != nil {
		return trace.SpanContext{}
	}
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: traceID, SpanID: spanID, TraceFlags: trace.TraceFlags(flags[0]) & trace.FlagsSampled, Remote: true,
	})
}
