package server

import (
	"context"
	"encoding/hex"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	traces "go.opentelemetry.io/proto/otlp/trace/v1"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/testkit"
	"triptych.dev/gateway/internal/tracing"
)

const (
	parentTrace = "0af7651916cd43dd8448eb211c80319c"
	parentSpan  = "b7ad6b7169203331"
	sampled     = "00-" + parentTrace + "-" + parentSpan + "-01"
)

// tracedGateway is one whose spans a collector takes once they were flushed.
type tracedGateway struct {
	*gateway
	*testkit.Collector
	tracer *tracing.Tracer
}

func startTraced(t testing.TB, ratio float64, changes ...change) *tracedGateway {
	t.Helper()
	return startTracedWithin(t, patience, ratio, changes...)
}

// startTracedWithin has a timeout of the collector's own.
func startTracedWithin(t testing.TB, timeout time.Duration, ratio float64, changes ...change) *tracedGateway {
	t.Helper()
	traced := &tracedGateway{Collector: testkit.StartCollector(t)}
	traced.gateway = startGateway(t, append(changes, func(_ *engine.Options, o *Options) {
		var err error
		traced.tracer, err = tracing.Open(tracing.Options{
			Endpoint: traced.Endpoint, Ratio: ratio, Queue: 1 << 14, Timeout: timeout, Observer: o.Metrics.ReportTraces(o.Logger),
		})
		if err != nil {
			t.Fatal(err)
		}
		o.Tracer, o.Jobs.Tracer = traced.tracer, traced.tracer
	})...)
	t.Cleanup(traced.flush)
	return traced
}

// flush has the collector see all that was recorded, and ends recording.
func (g *tracedGateway) flush() {
	g.Helper()
	if err := g.tracer.Close(); err != nil {
		g.Error(err)
	}
}

// checkPath holds that spans are each below the one before, and all in one trace.
func (g *tracedGateway) checkPath(names ...string) (last *traces.Span) {
	g.Helper()
	for i, name := range names {
		span := g.Named(g, name)
		if i > 0 && string(span.GetParentSpanId()) != string(last.GetSpanId()) {
			g.Errorf("%q is not below %q", name, names[i-1])
		}
		if i > 0 && string(span.GetTraceId()) != string(last.GetTraceId()) {
			g.Errorf("%q is in another trace than %q", name, names[i-1])
		}
		last = span
	}
	return last
}

func TestARequestIsOneTraceWithWhatIsAround(t *testing.T) {
	g := startTraced(t, 0)
	if got := g.post("/v1/embeddings", oneText, "X-Request-Id", "my-id", "Traceparent", sampled); got.status != http.StatusOK {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	line := g.accessLine("my-id")
	g.flush()
	const request, inference, call = "POST /v1/embeddings", "embeddings " + testkit.ModelName, "triptych.inference.v1.InferenceService/Embed"
	root := g.Named(t, request)
	if hex.EncodeToString(root.GetTraceId()) != parentTrace || hex.EncodeToString(root.GetParentSpanId()) != parentSpan {
		t.Errorf("it begins at %x, below %x", root.GetTraceId(), root.GetParentSpanId())
	}
	g.checkPath(request, "authenticate")
	g.checkPath(request, "receive body")
	g.checkPath(request, inference, "admit")
	last := g.checkPath(request, inference, call)
	if got := len(g.Spans()); got != 6 {
		t.Errorf("%d spans", got)
	}
	told := g.hotpath.Calls()[0].Metadata.Get("traceparent")
	if want := "00-" + parentTrace + "-" + hex.EncodeToString(last.GetSpanId()) + "-01"; len(told) != 1 || told[0] != want {
		t.Errorf("the hot path was told %q, want %q", told, want)
	}
	if line["trace_id"] != parentTrace {
		t.Errorf("the log has %v", line["trace_id"])
	}
	of := testkit.Attributes(root)
	if of["triptych.request.id"] != "my-id" || of["triptych.tenant"] != "acme" || of["triptych.outcome"] != "OK" {
		t.Errorf("the request's are %v", of)
	}
	used := testkit.Attributes(g.Named(t, inference))
	if used["gen_ai.request.model"] != testkit.ModelName || used["gen_ai.usage.input_tokens"] != "int_value:3" {
		t.Errorf("the call's are %v", used)
	}
}

func TestATraceThatIsNotRecordedIsHandedOnAsItCame(t *testing.T) {
	g := startTraced(t, 1)
	leftOut := strings.TrimSuffix(sampled, "01") + "00"
	g.post("/v1/embeddings", oneText, "Traceparent", leftOut)
	g.flush()
	if got := g.hotpath.Calls()[0].Metadata.Get("traceparent"); len(got) != 1 || got[0] != leftOut {
		t.Errorf("the hot path was told %q", got)
	}
	if spans := g.Spans(); len(spans) != 0 {
		t.Errorf("recorded %v", spans)
	}
}

func TestWhatMachinesAskEachSecondIsNotRecorded(t *testing.T) {
	g := startTraced(t, 1)
	for _, path := range []string{livezRoute, readyzRoute} {
		g.do(http.MethodGet, path, "", "Traceparent", sampled)
	}
	g.flush()
	if spans := g.Spans(); len(spans) != 0 {
		t.Errorf("recorded %v", spans)
	}
}

func TestWhatARequestFailsOfIsItsOutcome(t *testing.T) {
	g := startTraced(t, 1)
	g.do(http.MethodPost, "/v1/embeddings", oneText)
	g.post("/v1/embeddings", strings.Replace(oneText, testkit.ModelName, "unheard-of", 1))
	g.flush()
	failed := map[string]string{}
	for _, span := range g.Spans() {
		if span.GetStatus().GetMessage() != "" {
			t.Errorf("%s says %q", span.GetName(), span.GetStatus().GetMessage())
		}
		if of := testkit.Attributes(span); of["error.type"] != "" {
			failed[span.GetName()] += of["error.type"] + of["rpc.response.status_code"]
			if span.GetStatus().GetCode() != traces.Status_STATUS_CODE_ERROR {
				t.Errorf("%s has the status %v", span.GetName(), span.GetStatus())
			}
		}
	}
	for name, want := range map[string]string{
		"authenticate": "MISSING_API_KEY", "embeddings": "MODEL_NOT_FOUND",
		"triptych.inference.v1.InferenceService/Embed": "MODEL_NOT_FOUNDNOT_FOUND",
	} {
		if failed[name] != want {
			t.Errorf("%s failed of %q, want %q", name, failed[name], want)
		}
	}
	if len(failed) != 3 {
		t.Errorf("failed: %v", failed)
	}
}

func TestACallThatIsMadeElsewhereHasASpanForEach(t *testing.T) {
	second := testkit.StartHotpath(t, "127.0.0.1:0")
	g := startTraced(t, 1, func(o *engine.Options, _ *Options) { o.Addresses = append(o.Addresses, second.Address) })
	g.awaitConnections()
	for _, hotpath := range []*testkit.Hotpath{g.hotpath, second} {
		hotpath.SetEmbed(func(context.Context, *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
			return nil, testkit.Refusal(fault.ModelNotReady, "model", "it is being loaded")
		})
	}
	g.post("/v1/embeddings", oneText)
	g.flush()
	spans, told := map[string]bool{}, map[string]bool{}
	for _, span := range g.Spans() {
		if span.GetKind() == traces.Span_SPAN_KIND_CLIENT {
			spans[hex.EncodeToString(span.GetSpanId())] = true
		}
	}
	for _, call := range append(g.hotpath.Calls(), second.Calls()...) {
		if carried := call.Metadata.Get("traceparent"); len(carried) == 1 {
			told[strings.Split(carried[0], "-")[2]] = true
		}
	}
	if len(spans) != 2 || !maps.Equal(spans, told) {
		t.Errorf("spans %v; the hot paths were told %v", spans, told)
	}
}

func TestAJobIsATraceOfItsOwn(t *testing.T) {
	g := startTraced(t, 1)
	created := g.post(jobsRoute, `{"endpoint":"/v1/embeddings","body":`+oneText+`}`)
	if created.status != http.StatusAccepted {
		t.Fatalf("got %d %s", created.status, created.body)
	}
	stop := g.runJobs()
	g.eventually("the job's end", func() bool {
		return strings.Contains(string(g.get(jobsRoute).body), `"completed"`)
	})
	stop()
	g.flush()
	const job, request, inference = "process jobs", "execute /v1/embeddings", "embeddings " + testkit.ModelName
	g.checkPath(job, request, inference, "triptych.inference.v1.InferenceService/Embed")
	of := testkit.Attributes(g.Named(t, job))
	if of["messaging.message.id"] == "" || of["triptych.tenant"] != "acme" || of["triptych.outcome"] != "done" {
		t.Errorf("the job's are %v", of)
	}
	writes := 0
	for _, span := range g.Spans() {
		if span.GetName() == "store write" && string(span.GetTraceId()) == string(g.Named(t, job).GetTraceId()) {
			writes++
		}
	}
	if writes == 0 {
		t.Error("nothing was written")
	}
}

func TestRequestsDoNotWaitForACollectorThatHangs(t *testing.T) {
	g := startTracedWithin(t, 100*time.Millisecond, 1)
	g.Hang()
	const requests = 50
	began := time.Now()
	for range requests {
		if got := g.post("/v1/embeddings", oneText); got.status != http.StatusOK {
			t.Fatalf("got %d %s", got.status, got.body)
		}
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("%d requests took %v", requests, took)
	}
}

func TestARequestThatNoClientWaitsForJoinsWhatItIsPartOf(t *testing.T) {
	g := startTraced(t, 1)
	principal, err := g.Authenticator.Authenticate("Bearer " + g.keys["acme"])
	if err != nil {
		t.Fatal(err)
	}
	ctx, job := g.tracer.Job(t.Context(), tracing.Job{Queue: "a"})
	done := g.Execute(ctx, Execution{Principal: principal, Class: quota.Batch, RequestID: "r", Endpoint: "/v1/embeddings", Body: []byte(oneText)})
	if done.Status != http.StatusOK {
		t.Fatalf("got %d %s", done.Status, done.Body)
	}
	job.EndJob("done", false)
	g.flush()
	g.checkPath("process a", "execute /v1/embeddings", "embeddings "+testkit.ModelName)
}
