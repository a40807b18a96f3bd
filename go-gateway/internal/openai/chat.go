package openai

import (
	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
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
	err := readObject(body, g.fields(map[string]readField{
		"messages":              said.read,
		"max_completion_tokens": positive(&g.completionLimit),
		"logprobs":              boolean(&logprobs),
		"top_logprobs":          whole(0, mostTopLogprobs, func(v uint32) { topLogprobs = v }),
		// Marks of the caller's own, accepted and not used, as "user" is.
		"metadata":          labels,
		"safety_identifier": text(&label),
		// What many clients send to ask for nothing.
		"store":               only("Nothing is stored here.", "false"),
		"tools":               only(noTools, "[]"),
		"tool_choice":         only(noTools, `"none"`),
		"parallel_tool_calls": only(noTools, "false"),
		"functions":           only(noTools, "[]"),
		"function_call":       only(noTools, `"none"`),
		"modalities":          only("Only text is written here.", `["text"]`),
		"reasoning_effort":    only("No model here reasons before it answers.", `"none"`),
		"verbosity":           only("No model here can be told how much to write.", `"medium"`),
		"service_tier":        only("There is one tier here.", `"auto"`, `"default"`),
		// Known, so that null counts as absent.
		"audio": unsupported, "prediction": unsupported, "web_search_options": unsupported,
		"moderation": unsupported, "prompt_cache_key": unsupported, "prompt_cache_options": unsupported,
		"prompt_cache_retention": unsupported,
	}))
	if err != nil {
		return nil, err
	}
	request, err := g.finish(true)
	if err != nil {
		return nil, err
	}
	if !said.present {
		return nil, missing("messages")
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
