package openai

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/proto"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/strictjson"
)

// defaultCompletionTokens is OpenAI's: a completion that does not say how long it may be is short.
const defaultCompletionTokens = 16

// Completion reads the body of POST /v1/completions. Errors are *fault.Fault.
//
// What depends on the model (its context, the range of ids, the number of choices) is the hot path's to judge.
func (d *Decoder) Completion(body []byte, ignored *strictjson.Names) (*GenerationRequest, error) {
	var (
		prompt    input
		tokenizer *string
	)
	g := newGeneration()
	err := strictjson.Decode(body, g.fields(strictjson.Fields{
		"prompt":    prompt.read,
		"tokenizer": strictjson.String(&tokenizer),
		"logprobs":  strictjson.Uint32(0, maxTopLogprobs, func(v uint32) { g.request.TopLogprobs = &v }),
		"echo":      strictjson.AcceptOnly("The prompt is not repeated here.", "false"),
		"suffix":    strictjson.AcceptOnly("Nothing is written to fit between two texts.", `""`),
		// Also with a larger n, which OpenAI refuses: as many are returned as are written, whatever n is.
		"best_of": strictjson.AcceptOnly("All continuations that are written are returned.", "1"),
	}), ignored)
	if err != nil {
		return nil, err
	}
	request, err := g.finish(d, Completion)
	if err != nil {
		return nil, err
	}
	if request.Generate.MaxTokens == 0 {
		request.Generate.MaxTokens = defaultCompletionTokens
	}
	if !prompt.present {
		return nil, strictjson.Missing("prompt")
	}
	if err := checkTokenizer(&prompt, "prompt", request.Generate.GetModel(), tokenizer); err != nil {
		return nil, err
	}
	return request, request.setPrompts(&prompt)
}

// setPrompts takes a request's prompts. All that they say together is bounded as what one says.
func (r *GenerationRequest) setPrompts(prompts *input) error {
	count := len(prompts.texts) + len(prompts.ids)
	if count == 0 {
		return fault.InField(fault.EmptyInput, "prompt", "prompt is an empty list.")
	}
	if n := int(max(1, r.Generate.GetChoices())); count*n > maxChoices {
		return fault.InField(fault.TooManyInputs, "prompt",
			"prompt has %d entries, and n is %d; a reply has at most %d choices.", count, n, maxChoices)
	}
	for i := range count {
		call := r.Generate
		if i > 0 {
			call = proto.CloneOf(r.Generate)
			r.More = append(r.More, call)
		}
		if prompts.ids != nil {
			call.Prompt = &inferencev1.GenerateRequest_TokenIds{TokenIds: &inferencev1.TokenIds{Ids: prompts.ids[i]}}
		} else {
			call.Prompt = &inferencev1.GenerateRequest_Text{Text: prompts.texts[i]}
		}
	}
	return nil
}

// Completion is the dialect of POST /v1/completions.
var Completion = &Dialect{
	idPrefix: "cmpl-", object: "text_completion", chunkObject: "text_completion",
	fields: map[string]string{"top_logprobs": "logprobs"},
	text:   [2]string{`,"text":`, ""},
	ending: `,"text":""`,

	appendLogprobs: appendCompletionLogprobs,
	choice: func(index int, text string, logprobs jsontext.Value, finish finish) any {
		return completionChoice{index, text, logprobs, finish}
	},
}

type completionChoice struct {
	Index    int            `json:"index"`
	Text     string         `json:"text"`
	Logprobs jsontext.Value `json:"logprobs"`
	finish
}

// bytesPrefix marks, in completions, a token that is no text by itself.
const bytesPrefix = "bytes:"

// appendCompletionLogprobs writes a completion's "logprobs" of some tokens. offset is how many characters the choice
// had before them; the result is how many it has after them.
func appendCompletionLogprobs(
	buffer []byte, tokens []*inferencev1.GeneratedToken, top bool, offset int,
) ([]byte, int, error) {
	names, logprobs := []byte(`{"tokens":[`), []byte(`],"token_logprobs":[`)
	tops, offsets := []byte(`],"top_logprobs":[`), []byte(`],"text_offset":[`)
	for i, token := range tokens {
		if i > 0 {
			names, logprobs, tops, offsets = append(names, ','), append(logprobs, ','), append(tops, ','), append(offsets, ',')
		}
		var err error
		if names, err = jsontext.AppendQuote(names, tokenText(token.GetId(), token.GetBytes(), bytesPrefix)); err != nil {
			return nil, 0, err
		}
		if logprobs, err = appendLogprob(logprobs, token.GetLogprob()); err != nil {
			return nil, 0, err
		}
		if tops, err = appendTopMap(tops, token.GetTopLogprobs()); err != nil {
			return nil, 0, err
		}
		offsets = strconv.AppendInt(offsets, int64(offset), 10)
		offset += countRunes(token.GetBytes())
	}
	if !top {
		tops = []byte(`],"top_logprobs":null,"text_offset":[`)
		offsets = offsets[len(`],"text_offset":[`):]
	}
	for _, part := range [][]byte{names, logprobs, tops, offsets} {
		buffer = append(buffer, part...)
	}
	return append(buffer, "]}"...), offset, nil
}

// appendTopMap writes the likeliest tokens as an object by text. Of tokens that read alike it has the likeliest.
func appendTopMap(buffer []byte, tops []*inferencev1.TokenLogprob) ([]byte, error) {
	buffer = append(buffer, '{')
	seen := make(map[string]bool, len(tops))
	for _, top := range tops {
		name := tokenText(top.GetId(), top.GetBytes(), bytesPrefix)
		if seen[name] {
			continue
		}
		if len(seen) > 0 {
			buffer = append(buffer, ',')
		}
		seen[name] = true
		var err error
		if buffer, err = jsontext.AppendQuote(buffer, name); err != nil {
			return nil, err
		}
		buffer = append(buffer, ':')
		if buffer, err = appendLogprob(buffer, top.GetLogprob()); err != nil {
			return nil, err
		}
	}
	return append(buffer, '}'), nil
}
