package inference

import (
	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

// What a chat template puts around a conversation and each of its messages: some 30 and 6 tokens with templates that
// say hello. A template that takes more costs a second tokenization.
const (
	templateTokens        = 64
	templateMessageTokens = 16
)

// generateDemand is what one prompt and its continuations cost, and what the prompt does of it.
type generateDemand struct {
	demand
	promptTokens int64
}

func generateDemandOf(request *inferencev1.GenerateRequest, model *inferencev1.Model) generateDemand {
	prompt := promptBound(request, int64(model.GetLimits().GetMaxTokens()))
	choices := int64(max(1, request.GetChoices()))
	asked := int64(request.GetMaxTokens())
	least := choices * max(asked, 1)
	if asked == 0 {
		asked = int64(model.GetDefaultMaxTokens())
	}
	return generateDemand{demand{minTokens: least + 1, maxTokens: prompt + choices*max(asked, 1)}, prompt}
}

// promptBound is how many tokens a prompt has at most, where a model takes so many; 0 is any number.
func promptBound(request *inferencev1.GenerateRequest, maxTokens int64) int64 {
	switch prompt := request.GetPrompt().(type) {
	case *inferencev1.GenerateRequest_TokenIds:
		return int64(len(prompt.TokenIds.GetIds()))
	case *inferencev1.GenerateRequest_Text:
		return textBound(prompt.Text, maxTokens)
	default:
		bound := int64(templateTokens)
		for _, message := range request.GetConversation().GetMessages() {
			bound += int64(len(message.GetContent())) + templateMessageTokens
		}
		if maxTokens > 0 {
			bound = min(bound, maxTokens)
		}
		return bound
	}
}

// reserve takes what all prompts may cost, and lets each request cost its part of it.
func (g *Generation) reserve() error {
	var demands []generateDemand
	g.wanted = demand{field: "max_tokens"}
	if g.call.limitsTokens() {
		model := g.service.Engine.Model(g.model)
		for _, request := range g.requests {
			each := generateDemandOf(request, model)
			demands = append(demands, each)
			g.wanted.minTokens += each.minTokens
			g.wanted.maxTokens += each.maxTokens
		}
	}
	held, err := g.service.reserve(g.ctx, &g.call, g.wanted)
	if err != nil {
		return err
	}
	g.Usage.held = held
	if len(g.requests) > 1 && held.Granted < held.MaxTokens {
		// Several requests cannot share what is left before it is known what each of them takes.
		if err := g.count(demands); err != nil {
			g.Usage.held.Settle(0)
			return err
		}
	}
	g.schedule(demands)
	return nil
}

// schedule lets each request cost its part of what is held.
func (g *Generation) schedule(demands []generateDemand) {
	for i, request := range g.requests {
		request.Scheduling = g.call.scheduling(g.Usage.held)
		if len(g.requests) > 1 && g.Usage.held.MaxTokens > 0 {
			request.Scheduling.MaxCharge = uint64(demands[i].maxTokens)
		}
	}
}

// count asks how many tokens the prompts have, and reserves exactly what all may cost.
func (g *Generation) count(demands []generateDemand) error {
	tokenize := &inferencev1.TokenizeRequest{Model: g.model, CountsOnly: true, Scheduling: g.call.scheduling(g.Usage.held)}
	for _, request := range g.requests {
		if text := request.GetText(); text != "" {
			tokenize.Texts = append(tokenize.Texts, text)
		}
	}
	var counted []*inferencev1.TokenizedText
	if len(tokenize.Texts) > 0 {
		reply, err := g.service.Engine.Tokenize(g.ctx, tokenize)
		if err != nil {
			return fault.Of(err)
		}
		counted = reply.GetTexts()
	}
	total := uint64(0)
	for i, request := range g.requests {
		if request.GetText() != "" && len(counted) > 0 {
			demands[i].maxTokens += int64(counted[0].GetTokenCount()) - demands[i].promptTokens
			counted = counted[1:]
		}
		total += uint64(demands[i].maxTokens)
	}
	held, err := g.service.replace(g.ctx, &g.call, g.Usage.held, g.wanted.exactly(total))
	if err != nil {
		return err
	}
	g.Usage.held = held
	return nil
}

// Repeated makes a call once more that was refused for what it comes to once it was tokenized, if as much may be had. If
// so, there are Events to come. If not, Result says why.
func (g *Generation) Repeated() bool {
	if g.repeated || len(g.calls) > 1 || g.failure != nil {
		return false
	}
	_, err := g.calls[0].Result()
	tokens, refused := exactCharge(g.Usage.held, err)
	if !refused {
		return false
	}
	g.repeated = true
	held, err := g.service.replace(g.ctx, &g.call, g.Usage.held, g.wanted.exactly(tokens))
	if err != nil {
		g.failure = err
		return false
	}
	g.Usage.held = held
	g.schedule(nil)
	g.run()
	return true
}
