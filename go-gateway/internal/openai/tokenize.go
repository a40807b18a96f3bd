package openai

import (
	"fmt"

	"github.com/go-json-experiment/json"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

type tokenizeReply struct {
	Object string          `json:"object"`
	Data   []tokenizedText `json:"data"`
	Model  string          `json:"model"`
	Usage  usage           `json:"usage"`
}

type tokenizedText struct {
	Object  string      `json:"object"`
	Index   int         `json:"index"`
	Tokens  []uint32    `json:"tokens"`
	Offsets [][2]uint32 `json:"offsets"` // [start, end) of each token in the text's UTF-8 bytes
	Count   uint32      `json:"count"`
}

// usage is what an embeddings request with the same texts would be charged.
type usage struct {
	PromptTokens uint64 `json:"prompt_tokens"`
	TotalTokens  uint64 `json:"total_tokens"`
}

// RenderTokenize returns the reply to POST /v1/tokenize. An error means that the hot path broke its contract.
func RenderTokenize(request *TokenizeRequest, reply *inferencev1.TokenizeResponse) ([]byte, error) {
	texts := reply.GetTexts()
	if wanted := len(request.Tokenize.GetTexts()); len(texts) != wanted {
		return nil, fmt.Errorf("the hot path tokenized %d of %d texts", len(texts), wanted)
	}
	body := tokenizeReply{Object: "list", Data: make([]tokenizedText, len(texts)), Model: request.Tokenize.GetModel()}
	for i, text := range texts {
		starts, ends := text.GetByteStarts(), text.GetByteEnds()
		if len(starts) != len(text.GetIds()) || len(ends) != len(text.GetIds()) {
			return nil, fmt.Errorf("text %d has %d ids, %d starts and %d ends", i, len(text.GetIds()), len(starts), len(ends))
		}
		offsets := make([][2]uint32, len(starts))
		for j := range offsets {
			offsets[j] = [2]uint32{starts[j], ends[j]}
		}
		body.Data[i] = tokenizedText{"tokenized_text", i, text.GetIds(), offsets, text.GetTokenCount()}
		body.Usage.PromptTokens += uint64(text.GetTokenCount())
	}
	body.Usage.TotalTokens = body.Usage.PromptTokens
	return json.Marshal(body)
}
