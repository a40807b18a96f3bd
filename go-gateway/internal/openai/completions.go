package openai

import (
	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/strictjson"
)

// DecodeCompletion reads the body of POST /v1/completions. Errors are *fault.Fault.
//
// What depends on the model (its context, the range of ids, the number of choices) is the hot path's to judge.
func DecodeCompletion(body []byte) (*GenerationRequest, error) {
	var (
		prompt    input
		tokenizer *string
	)
	g := newGeneration()
	err := strictjson.Decode(body, g.fields(strictjson.Fields{
		"prompt":    prompt.read,
		"tokenizer": strictjson.String(&tokenizer),
		"logprobs":  strictjson.Uint32(0, mostTopLogprobs, func(v uint32) { g.request.TopLogprobs = &v }),
		"echo":      strictjson.AcceptOnly("The prompt is not repeated here.", "false"),
		"suffix":    strictjson.AcceptOnly("Nothing is written to fit between two texts.", `""`),
		// Also with a larger n, which OpenAI refuses: as many are returned as are written, whatever n is.
		"best_of": strictjson.AcceptOnly("All continuations that are written are returned.", "1"),
	}))
	if err != nil {
		return nil, err
	}
	request, err := g.finish(false)
	if err != nil {
		return nil, err
	}
	if !prompt.present {
		return nil, strictjson.Missing("prompt")
	}
	if err := checkTokenizer(&prompt, "prompt", request.Generate.GetModel(), tokenizer); err != nil {
		return nil, err
	}
	return request, setPrompt(request.Generate, &prompt)
}

// setPrompt takes the one prompt of a request.
func setPrompt(request *inferencev1.GenerateRequest, prompt *input) error {
	switch count := len(prompt.texts) + len(prompt.ids); {
	case count == 0:
		return fault.InField(fault.EmptyInput, "prompt", "prompt is an empty list.")
	case count > 1:
		return fault.InField(fault.TooManyInputs, "prompt", "prompt has %d entries; a request has one prompt. Use n for several continuations.", count)
	case prompt.ids != nil:
		request.Prompt = &inferencev1.GenerateRequest_TokenIds{TokenIds: &inferencev1.TokenIds{Ids: prompt.ids[0]}}
	default:
		request.Prompt = &inferencev1.GenerateRequest_Text{Text: prompt.texts[0]}
	}
	return nil
}
