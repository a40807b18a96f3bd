package engine

import inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"

// bytesPerToken is about what a token of English has. What is estimated by it only has to be in proportion.
const bytesPerToken = 4

// costOf is about how many tokens a call is: what is held for it, which is what it comes to at most, or an estimate
// where nothing is.
func costOf(scheduling *inferencev1.Scheduling, estimate func() int64) int64 {
	if held := scheduling.GetMaxCharge(); held > 0 {
		return int64(min(held, mostTokens))
	}
	return min(max(1, estimate()), mostTokens)
}

func embedCost(request *inferencev1.EmbedRequest) int64 {
	return costOf(request.GetScheduling(), func() (tokens int64) {
		for _, input := range request.GetInputs() {
			tokens += textTokens(input.GetText()) + int64(len(input.GetTokenIds().GetIds()))
		}
		return tokens
	})
}

func classifyCost(request *inferencev1.ClassifyRequest) int64 {
	return costOf(request.GetScheduling(), func() int64 { return textsTokens(request.GetTexts()) })
}

// tokenizeCost is small beside what an inference of the same texts costs, but not nothing.
func tokenizeCost(request *inferencev1.TokenizeRequest) int64 {
	const share = 64
	return max(1, textsTokens(request.GetTexts())/share)
}

func textsTokens(texts []string) (tokens int64) {
	for _, text := range texts {
		tokens += textTokens(text)
	}
	return tokens
}

func textTokens(text string) int64 { return (int64(len(text)) + bytesPerToken - 1) / bytesPerToken }
