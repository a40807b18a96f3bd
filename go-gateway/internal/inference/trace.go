package inference

import (
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/tracing"
)

// endSpan ends the span of a call with what it used so far.
func (s *Service) endSpan(span *tracing.Span, operation tracing.Operation, model string, usage *Usage, err error) {
	if span == nil {
		return
	}
	used := tracing.Inference{
		Inputs: usage.Inputs, InputTokens: usage.PromptTokens, CachedTokens: usage.CachedTokens, OutputTokens: usage.CompletionTokens,
		FinishReasons: usage.Finishes, FirstToken: usage.FirstToken,
	}
	if usage.Model != "" || s.Engine.Model(model) != nil {
		used.Model = model
	}
	span.EndInference(operation, used, fault.Outcome(err))
}
