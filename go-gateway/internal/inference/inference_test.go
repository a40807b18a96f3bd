package inference

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/metadata"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/identity"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/telemetry"
	"triptych.dev/gateway/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is an Engine that answers as the fake hot path does, without one, and remembers the last call.
type recorder struct {
	*engine.Engine
	carried    metadata.MD
	scheduling *inferencev1.Scheduling
}

func (r *recorder) Embed(ctx context.Context, request *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
	r.carried, _ = metadata.FromOutgoingContext(ctx)
	r.scheduling = request.GetScheduling()
	return testkit.Embed(ctx, request)
}

func newService(engine Engine) *Service {
	now := func() time.Time { return time.Unix(1_800_000_000, 0) }
	return &Service{
		Engine: engine, Limiter: quota.NewLimiter(quota.NewMemory(now, time.Minute), now), Metrics: telemetry.NewMetrics(100, time.Now),
	}
}

var acme = limited(quota.Limits{})

// limited is a principal whose plan has some limits of each class.
func limited(limits quota.Limits) identity.Principal {
	return identity.Principal{Tenant: "acme", KeyID: "key", Plan: identity.Plan{
		Name: "small", Weight: 3, Tenant: identity.ClassLimits{limits, limits},
	}}
}

func embed(t *testing.T, s *Service, call Call) Usage {
	t.Helper()
	text := &inferencev1.EmbedInput{Input: &inferencev1.EmbedInput_Text{Text: "a b"}}
	_, usage, err := s.Embed(t.Context(), call, &inferencev1.EmbedRequest{Model: testkit.ModelName, Inputs: []*inferencev1.EmbedInput{text, text}})
	if err != nil {
		t.Fatal(err)
	}
	return usage
}

// expect holds that the metrics have these lines, and none that begins with what is unwanted.
func (s *Service) expect(t *testing.T, unwanted string, lines ...string) {
	t.Helper()
	scraped := httptest.NewRecorder()
	s.Metrics.Handler().ServeHTTP(scraped, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range lines {
		if !strings.Contains(scraped.Body.String(), line+"\n") {
			t.Errorf("no %s in the metrics", line)
		}
	}
	if unwanted != "" && strings.Contains(scraped.Body.String(), "\n"+unwanted) {
		t.Errorf("%s is in the metrics", unwanted)
	}
}

func TestACallCarriesItsPrincipalAndIds(t *testing.T) {
	recorder := &recorder{}
	s := newService(recorder)
	const interactive, batch = inferencev1.Priority_PRIORITY_INTERACTIVE, inferencev1.Priority_PRIORITY_BATCH
	for _, c := range []struct {
		asked, highest quota.Class
		want           inferencev1.Priority
	}{
		{quota.Interactive, quota.Interactive, interactive}, {quota.Batch, quota.Interactive, batch},
		{quota.Interactive, quota.Batch, batch}, {quota.Batch, quota.Batch, batch},
	} {
		principal := acme
		principal.Scopes.Class = c.highest
		embed(t, s, Call{Principal: principal, Priority: c.asked, RequestID: "id", Traceparent: "trace"})
		if got := recorder.scheduling; got.GetFairnessKey() != "acme" || got.GetPriority() != c.want || got.GetWeight() != 3 || got.GetMaxCharge() != 0 {
			t.Errorf("%v of at most %v: got %v", c.asked, c.highest, got)
		}
	}
	if id, trace := recorder.carried.Get("x-request-id"), recorder.carried.Get("traceparent"); id[0] != "id" || trace[0] != "trace" {
		t.Errorf("carried %v", recorder.carried)
	}
}

func TestACallWithInputsIsCharged(t *testing.T) {
	s := newService(&recorder{})
	usage := embed(t, s, Call{Principal: acme})
	if usage.Model != testkit.ModelName || usage.Inputs != 2 || usage.PromptTokens != 8 || len(usage.Phases) != 3 {
		t.Errorf("got %+v", usage)
	}
	s.Settle(t.Context(), acme, usage, nil)
	s.expect(t, "gateway_generated_tokens_total", `gateway_tokens_total{model="all-minilm-l6-v2",tenant="acme"} 8`)
}
