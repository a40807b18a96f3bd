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

// tokensOf is about how many tokens a request is.
func tokensOf(request any) int64 {
	switch request := request.(type) {
	case *inferencev1.EmbedRequest:
		return costOf(request.GetScheduling(), func() (tokens int64) {
			for _, input := range request.GetInputs() {
				tokens += textTokens(input.GetText()) + int64(len(input.GetTokenIds().GetIds()))
			}
			return tokens
		})
	case *inferencev1.ClassifyRequest:
		return costOf(request.GetScheduling(), func() int64 { return textsTokens(request.GetTexts()) })
	case *inferencev1.TokenizeRequest: // small beside what an inference of the same texts costs
		const share = 64
		return max(1, textsTokens(request.GetTexts())/share)
	default:
		return 1
	}
}

func textsTokens(texts []string) (tokens int64) {
	for _, text := range texts {
		tokens += textTokens(text)
	}
	return tokens
}

func textTokens(text string) int64 { return (int64(len(text)) + bytesPerToken - 1) / bytesPerToken }
