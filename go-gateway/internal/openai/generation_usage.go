package openai

import (
	"strconv"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/telemetry"
)

// generationUsage is the hot path's own counts.
type generationUsage struct {
	PromptTokens     uint64       `json:"prompt_tokens"`
	CompletionTokens uint64       `json:"completion_tokens"`
	TotalTokens      uint64       `json:"total_tokens"`
	PromptDetails    cachedTokens `json:"prompt_tokens_details"`
}

type cachedTokens struct {
	CachedTokens uint32 `json:"cached_tokens"`
}

func usageOf(done *inferencev1.GenerateDone) generationUsage {
	prompt, completion := uint64(done.GetPromptTokens()), uint64(done.GetCompletionTokens())
	return generationUsage{prompt, completion, prompt + completion, cachedTokens{done.GetCachedTokens()}}
}

// appendTimings writes what a Server-Timing header would say: names of phases and milliseconds.
func appendTimings(buffer []byte, phases []telemetry.Phase) []byte {
	for i, phase := range phases {
		separator := byte(',')
		if i == 0 {
			separator = '{'
		}
		buffer = append(buffer, separator, '"')
		buffer = append(buffer, phase.Name...)
		buffer = append(buffer, `_ms":`...)
		buffer = strconv.AppendFloat(buffer, telemetry.Milliseconds(phase.Took), 'f', 3, 64)
	}
	return append(buffer, '}')
}
