package openai

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/strictjson"
)

const noTools = "No tool or function is called here."

// Chat reads the body of POST /v1/chat/completions. Errors are *fault.Fault.
//
// What depends on the model (its context, its template, the number of choices) is the hot path's to judge.
func (d *Decoder) Chat(body []byte, ignored *strictjson.Names) (*GenerationRequest, error) {
	var (
		conversation messages
		logprobs     bool
		topLogprobs  uint32
		cacheKey     *string
	)
	g := newGeneration()
	err := strictjson.Decode(body, g.fields(strictjson.Fields{
		"messages":              conversation.read,
		"max_completion_tokens": tokenLimit(&g.completionLimit),
		"logprobs":              strictjson.Bool(&logprobs),
		"top_logprobs":          strictjson.Uint32(0, maxTopLogprobs, func(v uint32) { topLogprobs = v }),
		// What many clients send to ask for nothing.
		"tools":               strictjson.AcceptOnly(noTools, "[]"),
		"tool_choice":         strictjson.AcceptOnly(noTools, `"none"`),
		"parallel_tool_calls": strictjson.AcceptOnly(noTools, "false"),
		"functions":           strictjson.AcceptOnly(noTools, "[]"),
		"function_call":       strictjson.AcceptOnly(noTools, `"none"`),
		"modalities":          strictjson.AcceptOnly("Only text is written here.", `["text"]`),
		// Known, so that null counts as absent.
		"audio": strictjson.Unsupported, "prediction": strictjson.Unsupported, "web_search_options": strictjson.Unsupported,
		"moderation": strictjson.Unsupported, "prompt_cache_options": strictjson.Unsupported,
	}, chatHints(&cacheKey)), ignored)
	if err != nil {
		return nil, err
	}
	request, err := g.finish(d, Chat)
	if err != nil {
		return nil, err
	}
	if !conversation.present {
		return nil, strictjson.Missing("messages")
	}
	if topLogprobs > 0 && !logprobs {
		return nil, fault.InField(fault.InvalidValue, "top_logprobs", "top_logprobs needs \"logprobs\": true.")
	}
	if logprobs {
		request.Generate.TopLogprobs = &topLogprobs
	}
	if cacheKey != nil {
		request.CacheKey = *cacheKey
	}
	request.Generate.Prompt = &inferencev1.GenerateRequest_Conversation{
		Conversation: &inferencev1.Conversation{Messages: conversation.list},
	}
	return request, nil
}

// Chat is the dialect of POST /v1/chat/completions.
var Chat = &Dialect{
	idPrefix: "chatcmpl-", object: "chat.completion", chunkObject: "chat.completion.chunk",
	fields:  map[string]string{"prompt": "messages"},
	opening: `,"delta":{"role":"assistant","content":""}`,
	text:    [2]string{`,"delta":{"content":`, `}`},
	ending:  `,"delta":{}`,

	appendLogprobs: appendChatLogprobs,
	choice: func(index int, text string, logprobs jsontext.Value, finish finish) any {
		return chatChoice{index, chatMessage{Role: "assistant", Content: text}, logprobs, finish}
	},
}

type chatChoice struct {
	Index    int            `json:"index"`
	Message  chatMessage    `json:"message"`
	Logprobs jsontext.Value `json:"logprobs"`
	finish
}

type chatMessage struct {
	Role    string  `json:"role"`
	Content string  `json:"content"`
	Refusal *string `json:"refusal"` // always null
}

// appendChatLogprobs writes a chat's "logprobs" of some tokens.
func appendChatLogprobs(buffer []byte, tokens []*inferencev1.GeneratedToken, _ bool, _ int) ([]byte, int, error) {
	buffer = append(buffer, `{"content":[`...)
	for i, token := range tokens {
		if i > 0 {
			buffer = append(buffer, ',')
		}
		buffer = append(buffer, '{')
		var err error
		if buffer, err = appendChatToken(buffer, token.GetId(), token.GetBytes(), token.GetLogprob()); err != nil {
			return nil, 0, err
		}
		buffer = append(buffer, `,"top_logprobs":[`...)
		for j, top := range token.GetTopLogprobs() {
			if j > 0 {
				buffer = append(buffer, ',')
			}
			buffer = append(buffer, '{')
			if buffer, err = appendChatToken(buffer, top.GetId(), top.GetBytes(), top.GetLogprob()); err != nil {
				return nil, 0, err
			}
			buffer = append(buffer, '}')
		}
		buffer = append(buffer, "]}"...)
	}
	return append(buffer, `],"refusal":null}`...), 0, nil
}

// appendChatToken writes the fields of one token.
func appendChatToken(buffer []byte, id uint32, text []byte, logprob float32) ([]byte, error) {
	buffer = append(buffer, `"token":`...)
	buffer, err := jsontext.AppendQuote(buffer, tokenText(id, text, ""))
	if err != nil {
		return nil, err
	}
	buffer = append(buffer, `,"logprob":`...)
	if buffer, err = appendLogprob(buffer, logprob); err != nil {
		return nil, err
	}
	buffer = append(buffer, `,"bytes":`...)
	if len(text) == 0 {
		return append(buffer, "null"...), nil
	}
	for i, char := range text {
		separator := byte(',')
		if i == 0 {
			separator = '['
		}
		buffer = append(buffer, separator)
		buffer = strconv.AppendUint(buffer, uint64(char), 10)
	}
	return append(buffer, ']'), nil
}
