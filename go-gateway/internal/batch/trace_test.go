package batch

import (
	"context"
	"testing"

	"triptych.dev/gateway/internal/testkit"
	"triptych.dev/gateway/internal/tracing"
)

// A segment has hundreds of lines, and a trace of thousands of spans is of no use.
func TestALineIsATraceThatLeadsToItsSegment(t *testing.T) {
	collector := testkit.StartCollector(t)
	tracer, err := tracing.Open(tracing.Options{Endpoint: collector.Endpoint, Ratio: 1, Queue: 1000, Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t)
	f.Tracer = tracer
	stop := f.watch(func(ctx context.Context, request Request) Reply {
		_, span := tracer.Execution(ctx, request.Endpoint)
		span.EndRequest(tracing.Reply{Status: 200, Outcome: tracing.OK})
		return good(ctx, request)
	})
	f.ended(f.mustSubmit(3).ID)
	stop()
	if err := tracer.Close(); err != nil {
		t.Fatal(err)
	}
	segments, lines := map[string]string{}, 0 // traces of segments by their spans
	for _, span := range collector.Spans() {
		if span.GetName() == "process batch" {
			segments[string(span.GetSpanId())] = string(span.GetTraceId())
		}
	}
	for _, span := range collector.Spans() {
		if span.GetName() != "execute "+endpoint {
			continue
		}
		lines++
		if len(span.GetLinks()) != 1 || segments[string(span.GetLinks()[0].GetSpanId())] == "" {
			t.Errorf("a line is linked to %v", span.GetLinks())
		} else if segments[string(span.GetLinks()[0].GetSpanId())] == string(span.GetTraceId()) {
			t.Error("a line is in its segment's trace")
		}
	}
	if lines != 3 {
		t.Errorf("%d lines", lines)
	}
}
