package engine

import inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"

// usualMaxTokens is what is assumed of a request that does not say how long its answer may be, of a model that is not
// known.
const usualMaxTokens = 256

// generationCost counts the prompt once, and for each choice all that it may come to.
func (e *Engine) generationCost(request *inferencev1.GenerateRequest) int64 {
	return costOf(request.GetScheduling(), func() int64 {
		tokens := textTokens(request.GetText()) + int64(len(request.GetTokenIds().GetIds()))
		for _, message := range request.GetConversation().GetMessages() {
			tokens += textTokens(message.GetContent())
		}
		most := int64(request.GetMaxTokens())
		if most == 0 {
			most = int64(e.Model(request.GetModel()).GetDefaultMaxTokens())
		}
		if most == 0 {
			most = usualMaxTokens
		}
		return tokens + most*int64(max(1, request.GetChoices()))
	})
}
