package openai

import (
	"github.com/go-json-experiment/json/jsontext"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

// Dialect is what an API says differently from others whose replies are choices.
type Dialect struct {
	idPrefix            string // of replies
	object, chunkObject string // types of a whole reply, and of a stream's chunks

	fields map[string]string // of requests: what it calls those that others call differently

	// JSON of one choice within a chunk, which follows its index.
	opening string    // of its first chunk, without a text; empty: it has no such chunk
	text    [2]string // before and after a text
	ending  string    // of its last chunk, before why it ended

	// appendLogprobs writes the "logprobs" of some tokens. offset is how many characters the choice had before them;
	// the result is how many it has after them.
	appendLogprobs func(buffer []byte, tokens []*inferencev1.GeneratedToken, top bool, offset int) ([]byte, int, error)
	// choice is one choice of a whole reply.
	choice func(index int, text string, logprobs jsontext.Value, finish finish) any
}

// appendLogprobs writes "logprobs" if the request asks for them.
func (r *GenerationRequest) appendLogprobs(
	buffer []byte, tokens []*inferencev1.GeneratedToken, offset int,
) ([]byte, int, error) {
	if r.Generate.TopLogprobs == nil {
		return append(buffer, "null"...), 0, nil
	}
	return r.Dialect.appendLogprobs(buffer, tokens, r.Generate.GetTopLogprobs() > 0, offset)
}
