package inference

import (
	"math"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

// Before a text is tokenized, its bytes bound its tokens: no tokenizer of ours makes more than one of a byte, but for
// those that it puts around a text. Where that should not hold, the hot path's exact count does.
const (
	// specialTokens are put around a text.
	specialTokens = 8
	// windowBytes is fewer than any window of a text that is judged in parts has.
	windowBytes = 64
)

// textBound is how many tokens a text has at most, where a model takes so many; 0 is any number.
func textBound(text string, maxTokens int64) int64 {
	bound := int64(len(text)) + specialTokens
	if maxTokens > 0 {
		bound = min(bound, maxTokens)
	}
	return bound
}

// limitsTokens reports whether it matters what a call costs.
func (c *Call) limitsTokens() bool {
	request := c.request()
	return request.LimitsTokens()
}

func (s *Service) embedDemand(call *Call, request *inferencev1.EmbedRequest) demand {
	wanted := demand{field: "inputs"}
	if !call.limitsTokens() {
		return wanted
	}
	maxTokens := int64(s.Engine.Model(request.GetModel()).GetLimits().GetMaxTokens())
	for _, input := range request.GetInputs() {
		wanted.minTokens++
		if ids := len(input.GetTokenIds().GetIds()); ids > 0 {
			wanted.maxTokens += int64(ids)
			continue
		}
		wanted.maxTokens += textBound(input.GetText(), maxTokens)
	}
	return wanted
}

func (s *Service) classifyDemand(call *Call, request *inferencev1.ClassifyRequest) demand {
	wanted := demand{field: "texts"}
	if !call.limitsTokens() {
		return wanted
	}
	for _, text := range request.GetTexts() {
		wanted.minTokens++
		windows := int64(len(text))/windowBytes + 1
		wanted.maxTokens += textBound(text, math.MaxInt64) + windows*specialTokens
	}
	return wanted
}
