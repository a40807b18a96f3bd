package tracing

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const (
	sampledParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	leftOutParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
)

var embeddings = Request{Method: "POST", Route: "/v1/embeddings", ProtocolMajor: 1, ProtocolMinor: 1}

func TestWhatBeganATraceDecidesWhetherItIsRecorded(t *testing.T) {
	for name, test := range map[string]struct {
		parent        string
		ratio, chance float64
		recorded      bool
	}{
		"a sampled parent, whatever the ratio":   {sampledParent, 0, 0.5, true},
		"a parent that was left out, likewise":   {leftOutParent, 1, 0, false},
		"none, and below the ratio":              {"", 0.01, 0.0099, true},
		"none, and at the ratio":                 {"", 0.01, 0.01, false},
		"none, and no trace is to be recorded":   {"", 0, 0, false},
		"none, and each trace is to be recorded": {"", 1, 0.999, true},
	} {
		t.Run(name, func(t *testing.T) {
			tracer, recorder := recording(t)
			tracer.ratio, tracer.random = test.ratio, func() float64 { return test.chance }
			ctx, span := tracer.Request(t.Context(), test.parent, embeddings)
			_, below := Start(ctx, "below")
			below.End(OK)
			span.EndRequest(Reply{Status: 200, Outcome: OK})
			want := 0
			if test.recorded {
				want = 2
			}
			if got := len(recorder.Ended()); got != want {
				t.Errorf("%d spans", got)
			}
			if test.recorded && test.parent != "" {
				parent := recorder.Ended()[1].Parent()
				if !parent.IsRemote() || !strings.Contains(test.parent, parent.TraceID().String()+"-"+parent.SpanID().String()) {
					t.Errorf("the parent is %v", parent)
				}
			}
		})
	}
}

func TestASpanIsToldAsItsTraceparent(t *testing.T) {
	tracer, recorder := recording(t)
	_, span := tracer.Request(t.Context(), sampledParent, embeddings)
	span.EndRequest(Reply{Status: 200, Outcome: OK})
	want := "00-0af7651916cd43dd8448eb211c80319c-" + recorder.Ended()[0].SpanContext().SpanID().String() + "-01"
	if got := span.Traceparent(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestWithoutASpanNothingIsAllocated(t *testing.T) {
	tracer, _ := recording(t)
	for name, tracer := range map[string]*Tracer{"off": nil, "left out": tracer} {
		ctx := t.Context()
		if allocated := testing.AllocsPerRun(100, func() {
			ctx, request := tracer.Request(ctx, leftOutParent, embeddings)
			ctx, inference := StartInference(ctx, Embeddings)
			_, call := StartCall(ctx, "a.Service", "Embed", "127.0.0.1:50051")
			call.EndCall("OK", OK)
			inference.EndInference(Embeddings, Inference{Model: "m", InputTokens: 3}, OK)
			_, write := StartWrite(Apart(ctx), "sqlite")
			write.Event("done")
			write.EndWrite(true, false)
			request.EndRequest(Reply{Status: 200, Outcome: OK, RequestID: "r", Tenant: "acme"})
			if request.Traceparent() != "" {
				t.Error("there is a span")
			}
		}); allocated > 0 {
			t.Errorf("%s: %v allocations", name, allocated)
		}
	}
}

func TestWhatNamesNoSpanIsNoParent(t *testing.T) {
	tracer, _ := recording(t)
	for _, wrong := range []string{
		"x", strings.Repeat("x", len(sampledParent)), strings.Replace(sampledParent, "-01", "-0x", 1),
		"00-00000000000000000000000000000000-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
	} {
		if _, span := tracer.Request(t.Context(), wrong, embeddings); span != nil {
			t.Errorf("%q began a span", wrong)
		}
	}
}

func TestPartsOfSomethingLargeAreTracesOfTheirOwn(t *testing.T) {
	tracer, recorder := recording(t)
	ctx, job := tracer.Job(t.Context(), Job{Queue: "batches", Kind: "segment", ID: "j", Tenant: "acme", Attempt: 1})
	_, whole := tracer.Execution(ctx, "/v1/embeddings")
	_, part := tracer.Execution(Apart(ctx), "/v1/embeddings")
	part.EndRequest(Reply{Status: 200, Outcome: OK})
	whole.EndRequest(Reply{Status: 200, Outcome: OK})
	job.EndJob("done", false)
	ended := recorder.Ended()
	its := ended[2].SpanContext()
	if ended[1].Parent().SpanID() != its.SpanID() {
		t.Error("what is one with its job is not below it")
	}
	if ended[0].Parent().IsValid() || ended[0].SpanContext().TraceID() == its.TraceID() {
		t.Error("a part is in the trace of the whole")
	}
	if links := ended[0].Links(); len(links) != 1 || links[0].SpanContext.SpanID() != its.SpanID() {
		t.Errorf("linked to %v", links)
	}
}

// A job is recorded where what had it done was; else by the ratio, and then it is linked to nothing.
func TestAJobIsLinkedToWhatHadItDone(t *testing.T) {
	for name, test := range map[string]struct {
		cause    string
		ratio    float64
		recorded bool
		linked   bool
	}{
		"recorded, whatever the ratio": {sampledParent, 0, true, true},
		"recorded":                     {sampledParent, 1, true, true},
		"left out, below the ratio":    {leftOutParent, 1, true, false},
		"unknown, below the ratio":     {"", 1, true, false},
		"unknown, above the ratio":     {"", 0, false, false},
		"nonsense, above the ratio":    {"00-x", 0, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			tracer, recorder := recording(t)
			tracer.ratio = test.ratio
			ctx, job := tracer.Job(t.Context(), Job{Queue: "jobs", ID: "j", Cause: test.cause})
			_, below := Start(ctx, "below")
			below.End(OK)
			job.EndJob("done", false)
			ended := recorder.Ended()
			if (len(ended) == 2) != test.recorded || len(ended) == 1 {
				t.Fatalf("%d spans", len(ended))
			}
			if !test.recorded {
				return
			}
			links := ended[1].Links()
			if (len(links) == 1) != test.linked || (test.linked && links[0].SpanContext.SpanID().String() != "b7ad6b7169203331") {
				t.Errorf("linked to %v", links)
			}
			if ended[1].Parent().IsValid() || strings.Contains(test.cause, ended[1].SpanContext().TraceID().String()) {
				t.Error("it is no trace of its own")
			}
		})
	}
}

func TestWhatIsBelowSomethingLeftOutIsLeftOut(t *testing.T) {
	tracer, recorder := recording(t)
	tracer.ratio = 0
	ctx, _ := tracer.Job(t.Context(), Job{Queue: "jobs"})
	tracer.ratio = 1
	if _, below := tracer.Execution(ctx, "/v1/embeddings"); below != nil {
		t.Error("the chance was taken twice")
	}
	_, part := tracer.Execution(Apart(ctx), "/v1/embeddings")
	part.EndRequest(Reply{Status: 200, Outcome: OK})
	if ended := recorder.Ended(); len(ended) != 1 || len(ended[0].Links()) != 0 {
		t.Errorf("of a part of it: %v", ended)
	}
}

// attributesOf are a span's, as texts.
func attributesOf(span sdk.ReadOnlySpan) map[string]string {
	found := map[string]string{}
	for _, one := range span.Attributes() {
		found[string(one.Key)] = one.Value.String()
	}
	return found
}

func TestSpansAreNamedByConventions(t *testing.T) {
	tracer, recorder := recording(t)
	ctx, request := tracer.Request(t.Context(), "", embeddings)
	ctx, inference := StartInference(ctx, Embeddings)
	_, call := StartCall(ctx, "triptych.inference.v1.InferenceService", "Embed", "127.0.0.1:50051")
	call.EndCall("RESOURCE_EXHAUSTED", "QUEUE_FULL")
	inference.EndInference(Embeddings, Inference{Model: "m", Inputs: 2, InputTokens: 7}, OK)
	request.EndRequest(Reply{Status: 503, Outcome: "QUEUE_FULL", RequestID: "req_1", Tenant: "acme"})
	want := []struct {
		name       string
		kind       trace.SpanKind
		status     codes.Code
		attributes map[string]string
	}{
		{"triptych.inference.v1.InferenceService/Embed", trace.SpanKindClient, codes.Error, map[string]string{
			"rpc.system.name": "grpc", "rpc.method": "triptych.inference.v1.InferenceService/Embed", "server.address": "127.0.0.1",
			"server.port": "50051", "rpc.response.status_code": "RESOURCE_EXHAUSTED", "error.type": "QUEUE_FULL",
		}},
		{"embeddings m", trace.SpanKindInternal, codes.Unset, map[string]string{
			"gen_ai.operation.name": "embeddings", "gen_ai.provider.name": "triptych", "gen_ai.request.model": "m",
			"gen_ai.usage.input_tokens": "7", "triptych.inputs": "2",
		}},
		{"POST /v1/embeddings", trace.SpanKindServer, codes.Error, map[string]string{
			"http.request.method": "POST", "http.route": "/v1/embeddings", "url.scheme": "http", "network.protocol.version": "1.1",
			"http.response.status_code": "503", "error.type": "QUEUE_FULL", "triptych.outcome": "QUEUE_FULL",
			"triptych.request.id": "req_1", "triptych.tenant": "acme",
		}},
	}
	for i, span := range recorder.Ended() {
		if span.Name() != want[i].name || span.SpanKind() != want[i].kind || span.Status() != (sdk.Status{Code: want[i].status}) {
			t.Errorf("got %s %v %v, want %+v", span.Name(), span.SpanKind(), span.Status(), want[i])
		}
		got := attributesOf(span)
		for key, value := range want[i].attributes {
			if got[key] != value {
				t.Errorf("%s: %s is %q, want %q", span.Name(), key, got[key], value)
			}
		}
		if len(got) != len(want[i].attributes) {
			t.Errorf("%s has %v", span.Name(), got)
		}
	}
}

func TestACallSaysWhereItGoes(t *testing.T) {
	for address, want := range map[string]map[string]string{
		"10.0.0.7:50051":         {"server.address": "10.0.0.7", "server.port": "50051"},
		"[::1]:50051":            {"server.address": "::1", "server.port": "50051"},
		"unix:/run/hotpath.sock": {"server.address": "/run/hotpath.sock", "network.transport": "unix"},
		"unix:/run/of:it.sock":   {"server.address": "/run/of:it.sock", "network.transport": "unix"},
	} {
		tracer, recorder := recording(t)
		ctx, request := tracer.Request(t.Context(), "", embeddings)
		_, call := StartCall(ctx, "a.Service", "Embed", address)
		call.EndCall("OK", OK)
		request.EndRequest(Reply{Status: 200, Outcome: OK})
		got := attributesOf(recorder.Ended()[0])
		for _, key := range []string{"server.address", "server.port", "network.transport"} {
			if got[key] != want[key] {
				t.Errorf("%s: %s is %q, want %q", address, key, got[key], want[key])
			}
		}
	}
}

func TestAMethodThatAClientMadeUpIsNotNamed(t *testing.T) {
	tracer, recorder := recording(t)
	_, span := tracer.Request(t.Context(), "", Request{Method: "SECRET", ProtocolMajor: 2, TLS: true})
	span.EndRequest(Reply{Status: 405, Outcome: "METHOD_NOT_ALLOWED"})
	ended := recorder.Ended()[0]
	if ended.Name() != "HTTP" || attributesOf(ended)["http.request.method"] != "_OTHER" || ended.Status().Code != codes.Unset {
		t.Errorf("%s %v %v", ended.Name(), ended.Attributes(), ended.Status())
	}
}

func TestASpanIsBoundedWhateverItIsGiven(t *testing.T) {
	tracer, recorder := recording(t)
	_, span := tracer.Request(t.Context(), "", embeddings)
	span.set(attribute.String("long", strings.Repeat("x", 1<<20)))
	for range 1000 {
		span.Event("again")
	}
	span.EndRequest(Reply{Status: 200, Outcome: OK})
	ended := recorder.Ended()[0]
	if got := len(attributesOf(ended)["long"]); got != limits.AttributeValueLengthLimit {
		t.Errorf("a value of %d bytes", got)
	}
	if got := len(ended.Events()); got != limits.EventCountLimit {
		t.Errorf("%d events", got)
	}
}

func TestLogLinesBearTheTracesID(t *testing.T) {
	tracer, _ := recording(t)
	var out bytes.Buffer
	logger := slog.New(LogHandler(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))).With("queue", "jobs")
	traced, span := tracer.Request(t.Context(), sampledParent, embeddings)
	defer span.EndRequest(Reply{Status: 200, Outcome: OK})
	for _, test := range []struct {
		ctx  context.Context
		says []any
		want string
	}{
		{traced, nil, " trace_id=0af7651916cd43dd8448eb211c80319c"},
		{traced, []any{"trace_id", "mine"}, " trace_id=mine"},
		{t.Context(), nil, ""},
	} {
		out.Reset()
		logger.InfoContext(test.ctx, "line", test.says...)
		if got := out.String(); !strings.HasSuffix(got, `msg=line queue=jobs`+test.want+"\n") {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}
