package openai

import (
	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/strictjson"
)

const noTools = "No tool or function is called here."

// DecodeChat reads the body of POST /v1/chat/completions. Errors are *fault.Fault.
//
// What depends on the model (its context, its template, the number of choices) is the hot path's to judge.
func DecodeChat(body []byte) (*GenerationRequest, error) {
	var (
		said        messages
		logprobs    bool
		topLogprobs uint32
		label       *string
	)
	g := newGeneration()
	err := strictjson.Decode(body, g.fields(strictjson.Fields{
		"messages":              said.read,
		"max_completion_tokens": strictjson.Positive(&g.completionLimit),
		"logprobs":              strictjson.Bool(&logprobs),
		"top_logprobs":          strictjson.Uint32(0, mostTopLogprobs, func(v uint32) { topLogprobs = v }),
		// Marks of the caller's own, accepted and not used, as "user" is.
		"metadata":          labels,
		"safety_identifier": strictjson.String(&label),
		// What many clients send to ask for nothing.
		"store":               strictjson.AcceptOnly("Nothing is stored here.", "false"),
		"tools":               strictjson.AcceptOnly(noTools, "[]"),
		"tool_choice":         strictjson.AcceptOnly(noTools, `"none"`),
		"parallel_tool_calls": strictjson.AcceptOnly(noTools, "false"),
		"functions":           strictjson.AcceptOnly(noTools, "[]"),
		"function_call":       strictjson.AcceptOnly(noTools, `"none"`),
		"modalities":          strictjson.AcceptOnly("Only text is written here.", `["text"]`),
		"reasoning_effort":    strictjson.AcceptOnly("No model here reasons before it answers.", `"none"`),
		"verbosity":           strictjson.AcceptOnly("No model here can be told how much to write.", `"medium"`),
		"service_tier":        strictjson.AcceptOnly("There is one tier here.", `"auto"`, `"default"`),
		// Known, so that null counts as absent.
		"audio": strictjson.Unsupported, "prediction": strictjson.Unsupported, "web_search_options": strictjson.Unsupported,
		"moderation": strictjson.Unsupported, "prompt_cache_key": strictjson.Unsupported, "prompt_cache_options": strictjson.Unsupported,
		"prompt_cache_retention": strictjson.Unsupported,
	}))
	if err != nil {
		return nil, err
	}
	request, err := g.finish(true)
	if err != nil {
		return nil, err
	}
	if !said.present {
		return nil, strictjson.Missing("messages")
	}
	if topLogprobs > 0 && !logprobs {
		return nil, fault.InField(fault.InvalidValue, "top_logprobs", "top_logprobs needs \"logprobs\": true.")
	}
	if logprobs {
		request.Generate.TopLogprobs = &topLogprobs
	}
	request.Generate.Prompt = &inferencev1.GenerateRequest_Conversation{
		Conversation: &inferencev1.Conversation{Messages: said.list},
	}
	return request, nil
}

// labels reads an object of strings: marks of a caller's own, accepted and not used.
func labels(decoder *jsontext.Decoder, name string) error {
	if err := strictjson.ExpectKind(decoder, jsontext.KindBeginObject, name, "an object of strings"); err != nil {
		return err
	}
	return strictjson.Members(decoder, func(key string) error {
		_, err := strictjson.ReadKind(decoder, jsontext.KindString, name+"."+strictjson.Clip(key), "a string")
		return strictjson.Quoting(strictjson.Clip(key), err)
	})
}
