package usage

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/connector"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// told is a span as a test writes it. Its trace is the test's, unless it says so.
type told struct {
	trace, id, parent byte
	name              string
	kind              ptrace.SpanKind
	start, end        int // ms
	attributes        map[string]any
	scope             string // the gateway's, if it is empty
}

const client = 0xcc // the span of a client, which nobody sends

// chat is a request as the two services tell of it, in the order in which their spans end.
func chat() []told {
	const grpc = "triptych.inference.v1.InferenceService/Generate"
	call := map[string]any{"rpc.method": grpc, "rpc.system.name": "grpc"}
	return []told{
		{id: 2, parent: 1, name: "authenticate", start: 0, end: 1},
		{id: 3, parent: 1, name: "receive body", start: 1, end: 3},
		{id: 5, parent: 4, name: "admit", start: 3, end: 4},
		{id: 11, parent: 10, name: "tokenize", start: 5, end: 7, scope: hotpathScope},
		{id: 12, parent: 10, name: "queue", start: 7, end: 17, scope: hotpathScope},
		{id: 13, parent: 10, name: "prefill", start: 17, end: 57, scope: hotpathScope},
		{id: 14, parent: 10, name: "decode", start: 57, end: 357, scope: hotpathScope},
		{id: 10, parent: 6, name: grpc, kind: ptrace.SpanKindServer, start: 5, end: 358, attributes: call, scope: hotpathScope},
		{id: 6, parent: 4, name: grpc, kind: ptrace.SpanKindClient, start: 4, end: 359, attributes: call},
		{id: 4, parent: 1, name: "chat smol", start: 3, end: 360, attributes: map[string]any{
			operationKey: "chat", modelKey: "smol", inputTokensKey: int64(31), cachedTokensKey: int64(16), outputTokensKey: int64(5),
			finishesKey: []any{"stop"}, firstChunkKey: 0.057,
		}},
		{id: 7, parent: 1, name: "stream", start: 57, end: 361},
		{id: 1, parent: client, name: "POST /v1/chat/completions", kind: ptrace.SpanKindServer, start: 0, end: 362, attributes: map[string]any{
			requestIDKey: "req-1", tenantKey: "acme", outcomeKey: "OK", statusKey: int64(200), routeKey: "/v1/chat/completions",
		}},
	}
}

// chatRecord is what is made of it.
func chatRecord() map[string]any {
	return map[string]any{
		requestIDKey: "req-1", tenantKey: "acme", outcomeKey: "OK", statusKey: int64(200), routeKey: "/v1/chat/completions",
		requestKey: "POST /v1/chat/completions", operationKey: "chat", modelKey: "smol",
		inputTokensKey: int64(31), cachedTokensKey: int64(16), outputTokensKey: int64(5), finishesKey: []any{"stop"}, firstChunkKey: 0.057,
		callsKey: int64(1), secondsKey + "total": 0.362, secondsKey + "authenticate": 0.001, secondsKey + "receive_body": 0.002,
		secondsKey + "admit": 0.001, secondsKey + "tokenize": 0.002, secondsKey + "queue": 0.01, secondsKey + "prefill": 0.04,
		secondsKey + "decode": 0.3, secondsKey + "stream": 0.304,
	}
}

// but returns spans with those of some ids left out.
func but(spans []told, ids ...byte) []told {
	return slices.DeleteFunc(spans, func(each told) bool { return slices.Contains(ids, each.id) })
}

// under returns spans with another trace, and another id of the request.
func under(spans []told, trace byte, requestID string) []told {
	for i := range spans {
		spans[i].trace = trace
		if spans[i].attributes[requestIDKey] != nil {
			spans[i].attributes = maps.Clone(spans[i].attributes)
			spans[i].attributes[requestIDKey] = requestID
		}
	}
	return spans
}

func traceOf(number byte) pcommon.TraceID { return pcommon.TraceID{0: 0xaa, 15: number} }
func spanOf(number byte) pcommon.SpanID   { return pcommon.SpanID{0: 0xbb, 7: number} }

// traces has spans as one batch.
func traces(spans ...told) ptrace.Traces {
	batch := ptrace.NewTraces()
	for _, each := range spans {
		scope := batch.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty()
		scope.Scope().SetName(gatewayScope)
		if each.scope != "" {
			scope.Scope().SetName(each.scope)
		}
		span := scope.Spans().AppendEmpty()
		span.SetTraceID(traceOf(each.trace))
		span.SetSpanID(spanOf(each.id))
		span.SetParentSpanID(spanOf(each.parent))
		span.SetName(each.name)
		span.SetKind(each.kind)
		at := func(ms int) pcommon.Timestamp { return pcommon.Timestamp(time.Duration(1e6+ms) * time.Millisecond) }
		span.SetStartTimestamp(at(each.start))
		span.SetEndTimestamp(at(each.end))
		if err := span.Attributes().FromRaw(each.attributes); err != nil {
			panic(err)
		}
	}
	return batch
}

// sink is what takes records: an exporter that can be out of order.
type sink struct {
	consumer.Logs
	mutex   sync.Mutex
	records []map[string]any
	taken   []plog.LogRecord
	refuse  error
	tried   int
	during  func() // what happens meanwhile
}

func (s *sink) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (s *sink) ConsumeLogs(_ context.Context, logs plog.Logs) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.tried++
	if s.during != nil {
		s.during()
	}
	if s.refuse != nil {
		return s.refuse
	}
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, each := range scope.LogRecords().All() {
				s.records = append(s.records, each.Attributes().AsRaw())
				s.taken = append(s.taken, each)
			}
		}
	}
	return nil
}

func (s *sink) all() []map[string]any {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.Clone(s.records)
}

// attempts is how often it was asked to take records, and last the last one that it took.
func (s *sink) attempts() (tried int, last plog.LogRecord) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if len(s.taken) > 0 {
		last = s.taken[len(s.taken)-1]
	}
	return s.tried, last
}

func (s *sink) setDuring(what func()) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.during = what
}

func (s *sink) setRefusal(err error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.refuse = err
}

var errDown = errors.New("the exporter is down")

// fixture is a connector that has started.
type fixture struct {
	*usage
	sink      *sink
	telemetry *componenttest.Telemetry
}

func begin(t *testing.T, change func(*Config)) *fixture {
	t.Helper()
	config := defaults().(*Config)
	if change != nil {
		change(config)
	}
	if err := config.Validate(); err != nil {
		t.Fatal(err)
	}
	f := &fixture{sink: &sink{}, telemetry: componenttest.NewTelemetry()}
	made, err := NewFactory().CreateTracesToLogs(t.Context(),
		connector.Settings{TelemetrySettings: f.telemetry.NewTelemetrySettings(), ID: componentID}, config, f.sink)
	if err != nil {
		t.Fatal(err)
	}
	f.usage = made.(*usage)
	if err := f.Start(t.Context(), componenttest.NewNopHost()); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) send(t *testing.T, spans ...told) {
	t.Helper()
	if err := f.ConsumeTraces(t.Context(), traces(spans...)); err != nil {
		t.Fatal(err)
	}
}

// end shuts it down, and returns the records.
func (f *fixture) end(t *testing.T) []map[string]any {
	t.Helper()
	if err := f.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f.sink.all()
}

// count returns what a metric has come to, of all its series, or of those with an attribute.
func (f *fixture) count(t *testing.T, name string, attributes ...string) int64 {
	t.Helper()
	found, err := f.telemetry.GetMetric(name)
	if err != nil {
		return 0
	}
	return sumOf(t, found, attributes)
}
