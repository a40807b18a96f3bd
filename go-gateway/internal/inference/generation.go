package inference

import (
	"context"
	"time"

	"triptych.dev/gateway/internal/engine"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/telemetry"
)

// Generation is one running call of Generate, and what it did so far.
type Generation struct {
	*engine.Generation
	Usage Usage

	model string
	start time.Time
}

// Generate continues a prompt. The caller Observes each event.
func (s *Service) Generate(ctx context.Context, call Call, request *inferencev1.GenerateRequest) *Generation {
	request.Scheduling = call.scheduling()
	return &Generation{
		Generation: s.Engine.Generate(call.outgoing(ctx), request), model: request.GetModel(), start: time.Now(),
	}
}

// Observe takes note of an event.
func (g *Generation) Observe(event *inferencev1.GenerateResponse) {
	g.Usage.Model = g.model
	if started := event.GetStarted(); started != nil {
		g.Usage.PromptTokens, g.Usage.CachedTokens = uint64(started.GetPromptTokens()), uint64(started.GetCachedTokens())
	}
	delta := event.GetDelta()
	g.Usage.CompletionTokens += uint64(len(delta.GetTokens()))
	if g.Usage.FirstToken == 0 && g.Usage.CompletionTokens > 0 {
		g.Usage.FirstToken = time.Since(g.start)
		g.Usage.Phases = []telemetry.Phase{{Name: "first_token", Took: g.Usage.FirstToken}}
	}
	if finish := delta.GetFinish(); finish != nil {
		reason := "stop"
		if finish.GetLength() != nil {
			reason = "length"
		}
		g.Usage.Finishes = append(g.Usage.Finishes, reason)
	}
}

// Result says how it went, once Events is closed: the sum, or a *fault.Fault.
func (g *Generation) Result() (*inferencev1.GenerateDone, error) {
	done, err := g.Generation.Result()
	if err != nil {
		return nil, err
	}
	g.Usage.Model = g.model
	g.Usage.PromptTokens, g.Usage.CachedTokens = uint64(done.GetPromptTokens()), uint64(done.GetCachedTokens())
	g.Usage.CompletionTokens = uint64(done.GetCompletionTokens())
	timings := done.GetTimings()
	g.Usage.Phases = append([]telemetry.Phase{
		{Name: "tokenize", Took: timings.GetTokenize().AsDuration()},
		{Name: "queue", Took: timings.GetQueue().AsDuration()},
		{Name: "prefill", Took: timings.GetPrefill().AsDuration()},
		{Name: "decode", Took: timings.GetDecode().AsDuration()},
	}, g.Usage.Phases...)
	return done, nil
}
