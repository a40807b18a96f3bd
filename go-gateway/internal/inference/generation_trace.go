package inference

import "triptych.dev/gateway/internal/tracing"

// operation is what the prompts ask for.
func (g *Generation) operation() tracing.Operation {
	if g.requests[0].GetConversation() != nil {
		return tracing.Chat
	}
	return tracing.TextCompletion
}

// endSpan ends the span of all calls.
func (g *Generation) endSpan(err error) {
	g.service.endSpan(g.span, g.operation(), g.model, &g.Usage, err)
}
