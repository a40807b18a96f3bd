package inference

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/telemetry"
	"triptych.dev/gateway/internal/testkit"
)

func TestAGenerationIsChargedUnlessWeFailed(t *testing.T) {
	hotpath := testkit.StartHotpath(t, "127.0.0.1:0")
	e, err := engine.New(engine.Options{
		Addresses: []string{hotpath.Address}, Timeout: time.Minute, GenerationTimeout: time.Minute, CanaryInterval: time.Minute,
		ReadyWindow: time.Minute, Metrics: telemetry.NewMetrics(100, time.Now), Logger: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	s := newService(e)
	generation := func() *Generation {
		for { // until the connection is there
			running, err := s.Generate(t.Context(), Call{Principal: acme}, &inferencev1.GenerateRequest{
				Model: testkit.ChatModelName, Prompt: &inferencev1.GenerateRequest_Text{Text: "a b"},
			})
			if err != nil {
				t.Fatal(err)
			}
			for event := range running.Events() {
				running.Observe(event)
			}
			if _, err := running.Result(); err == nil {
				return running
			} else if fault.Of(err).Reason != fault.HotpathUnavailable {
				t.Fatal(err)
			}
		}
	}
	running := generation()
	s.Settle(t.Context(), acme, running.Usage, fault.New(fault.Internal, "The reply could not be rendered."))
	s.expect(t, "gateway_tokens_total", `gateway_finished_choices_total{finish_reason="stop",model="smollm2-135m-instruct"} 1`,
		`gateway_first_token_seconds_count{model="smollm2-135m-instruct"} 1`)
	if running.Usage.CompletionTokens != 6 || len(running.Usage.Timings()) != 5 {
		t.Errorf("got %+v", running.Usage)
	}
	s.Settle(t.Context(), acme, running.Usage, nil)
	const of = `{model="smollm2-135m-instruct",tenant="acme"} `
	s.expect(t, "", "gateway_tokens_total"+of+"8", "gateway_generated_tokens_total"+of+"6", "gateway_cached_tokens_total"+of+"1")
}

// A row that nobody finishes counts until the generation is closed, which is when the hot path drops it.
func TestRowsCountFromTheStartOfAPromptToTheEndOfEachChoice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := make(chan *inferencev1.GenerateResponse)
		close(events)
		two := uint32(2)
		g := &Generation{requests: []*inferencev1.GenerateRequest{{Choices: two}, {Choices: two}}, events: events, start: time.Now()}
		started := &inferencev1.GenerateResponse{Event: &inferencev1.GenerateResponse_Started{Started: &inferencev1.GenerateStarted{}}}
		finished := &inferencev1.GenerateResponse{Event: &inferencev1.GenerateResponse_Delta{Delta: &inferencev1.GenerateDelta{Finish: &inferencev1.Finish{}}}}
		for _, step := range []struct {
			after time.Duration
			event *inferencev1.GenerateResponse
		}{{5 * time.Second, started}, {2 * time.Second, finished}, {time.Second, started}, {time.Second, finished}} {
			time.Sleep(step.after)
			g.Observe(step.event)
		}
		time.Sleep(time.Second)
		g.Close()
		time.Sleep(time.Second)
		g.Close()
		if want := (2*2 + 1*1 + 3*1 + 2*1) * time.Second; g.Usage.Rows != want {
			t.Errorf("%v, not %v", g.Usage.Rows, want)
		}
	})
}
