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
	wanted := demand{field: "inputs", least: func() int64 { return s.leastOfInputs(request) }}
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
	wanted := demand{field: "texts", least: func() int64 { return s.leastOfTexts(request) }}
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

// leastOfInputs is how many tokens a request has at least, whatever its model's tokenizer; 0 where it may be refused for
// what it is, which takes no time and has a better reason.
func (s *Service) leastOfInputs(request *inferencev1.EmbedRequest) (least int64) {
	model := s.Engine.Model(request.GetModel())
	limits := model.GetLimits()
	if model.GetTask() != inferencev1.Task_TASK_EMBEDDING || len(request.GetInputs()) > int(limits.GetMaxInputs()) {
		return 0
	}
	maxTokens := int64(limits.GetMaxTokens())
	for _, input := range request.GetInputs() {
		tokens := int64(len(input.GetTokenIds().GetIds())) + words(input.GetText())
		if tokens > maxTokens && !request.GetTruncate() {
			return 0
		}
		least += min(tokens, maxTokens)
	}
	return least
}

// leastOfTexts is the same of texts that are judged in parts, however long they are.
func (s *Service) leastOfTexts(request *inferencev1.ClassifyRequest) (least int64) {
	model := s.Engine.Model(request.GetModel())
	if model.GetTask() != inferencev1.Task_TASK_CLASSIFICATION || len(request.GetTexts()) > int(model.GetLimits().GetMaxInputs()) {
		return 0
	}
	for _, text := range request.GetTexts() {
		least += words(text)
	}
	return least
}

// words counts what stands between spaces and has a letter or a digit of ASCII: no tokenizer of ours makes one token of two
// of them, or none of one. Of what is written without spaces little is known.
func words(text string) (count int64) {
	counted := false
	for _, letter := range []byte(text) {
		switch {
		case letter == ' ' || letter == '\n' || letter == '\t' || letter == '\r':
			counted = false
		case !counted && (letter >= 'a' && letter <= 'z' || letter >= 'A' && letter <= 'Z' || letter >= '0' && letter <= '9'):
			counted = true
			count++
		}
	}
	return count
}
