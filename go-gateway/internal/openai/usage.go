package openai

import (
	"strconv"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/telemetry"
)

// appendGenerationUsage writes the hot path's own counts.
func appendGenerationUsage(buffer []byte, done *inferencev1.GenerateDone) []byte {
	prompt, completion := uint64(done.GetPromptTokens()), uint64(done.GetCompletionTokens())
	buffer = append(buffer, `{"prompt_tokens":`...)
	buffer = strconv.AppendUint(buffer, prompt, 10)
	buffer = append(buffer, `,"completion_tokens":`...)
	buffer = strconv.AppendUint(buffer, completion, 10)
	buffer = append(buffer, `,"total_tokens":`...)
	buffer = strconv.AppendUint(buffer, prompt+completion, 10)
	buffer = append(buffer, `,"prompt_tokens_details":{"cached_tokens":`...)
	buffer = strconv.AppendUint(buffer, uint64(done.GetCachedTokens()), 10)
	return append(buffer, "}}"...)
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
