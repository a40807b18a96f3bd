package inference

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/telemetry"
	"triptych.dev/gateway/internal/tracing"
)

// Usage is what a call used and how it went: what is charged, counted and logged.
type Usage struct {
	// Model is empty until it is known to exist: what clients call models is no label of metrics.
	Model string
	// Inputs are those of a call with inputs; 0 of a generation.
	Inputs int
	// PromptTokens are read; CachedTokens of them need not be computed.
	PromptTokens, CachedTokens uint64
	// CompletionTokens were generated, so far.
	CompletionTokens uint64
	// FirstToken is how long the first of them took; 0 while there is none.
	FirstToken time.Duration
	// Finishes are why choices ended, of those that did.
	Finishes []string
	// Phases are where the hot path's time went. They do not overlap.
	Phases []telemetry.Phase
	// Rows is for how long the choices of a generation had rows of the model, together.
	Rows time.Duration

	held *quota.Held // until it is settled; nil where nothing is
}

// Timings are what clients and the log are told: the phases, and how long the first token took, whatever went before.
func (u *Usage) Timings() []telemetry.Phase {
	if u.FirstToken == 0 {
		return u.Phases
	}
	return append(slices.Clip(u.Phases), telemetry.Phase{Name: "first_token", Took: u.FirstToken})
}

// usageOf is what a call with inputs did.
func usageOf(model string, inputs int, tokenCounts []uint32, timings *inferencev1.Timings) Usage {
	usage := Usage{Model: model, Inputs: inputs, Phases: []telemetry.Phase{
		{Name: "tokenize", Took: timings.GetTokenize().AsDuration()},
		{Name: "queue", Took: timings.GetQueue().AsDuration()},
		{Name: "inference", Took: timings.GetInference().AsDuration()},
	}}
	for _, count := range tokenCounts {
		usage.PromptTokens += uint64(count)
	}
	return usage
}

// charged are the failures after which what was done so far is charged: the caller went away, did not read what it asked
// for, or asked for more than there was time for. Where nothing was done, nothing is.
var charged = map[fault.Reason]bool{fault.Cancelled: true, fault.SlowReader: true, fault.DeadlineExceeded: true}

// Settle counts what a principal's call did, and charges what it used: also where it ended halfway by the caller's doing
// or for lack of time, but not where we failed. What was held beyond that goes back. A nil failure is none.
func (s *Service) Settle(ctx context.Context, principal identity.Principal, usage Usage, failure *fault.Fault) {
	isCharged := failure == nil || charged[failure.Reason]
	tokens := usage.PromptTokens + usage.CompletionTokens
	if usage.held != nil {
		used := int64(0)
		if isCharged {
			used = int64(tokens)
		}
		usage.held.Settle(used)
	}
	if usage.Model == "" {
		return
	}
	s.Metrics.Tenants.Spent(principal.Tenant, usage.Phases, usage.Rows)
	if usage.FirstToken > 0 {
		telemetry.Observe(s.Metrics.FirstTokenSeconds.WithLabelValues(usage.Model), usage.FirstToken, tracing.From(ctx).TraceID())
	}
	for _, reason := range usage.Finishes {
		s.Metrics.Finishes.WithLabelValues(usage.Model, reason).Inc()
	}
	if !isCharged {
		return
	}
	if tokens > 0 {
		s.Metrics.Tenants.Charged(principal.Tenant, usage.Model, tokens)
	}
	if usage.Inputs == 0 {
		s.Metrics.Tenants.Generated(principal.Tenant, usage.Model, usage.CompletionTokens, usage.CachedTokens)
	}
}

// LogAttrs say what a call did, its phases last. They hold no input.
func (u Usage) LogAttrs() []slog.Attr {
	if u.Model == "" {
		return nil
	}
	attrs := []slog.Attr{slog.String("model", u.Model)}
	if u.Inputs > 0 {
		attrs = append(attrs, slog.Int("inputs", u.Inputs), slog.Uint64("tokens", u.PromptTokens))
	} else {
		attrs = append(attrs, slog.Uint64("completion_tokens", u.CompletionTokens))
	}
	if len(u.Finishes) > 0 {
		attrs = append(attrs, slog.Any("finish_reasons", u.Finishes))
	}
	if u.Inputs == 0 && u.PromptTokens > 0 {
		attrs = append(attrs, slog.Uint64("prompt_tokens", u.PromptTokens), slog.Uint64("cached_tokens", u.CachedTokens))
	}
	for _, phase := range u.Timings() {
		attrs = append(attrs, slog.Float64(phase.Name+"_ms", telemetry.Milliseconds(phase.Took)))
	}
	return attrs
}
