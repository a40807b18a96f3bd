package openai

import (
	stdjson "encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

// hello is the start of a good chat request; more fields may follow.
const hello = `{"model":"m","messages":[{"role":"user","content":"hi"}]`

// helloContract is the same to the hot path.
const helloContract = `"model":"m","conversation":{"messages":[{"role":"ROLE_USER","content":"hi"}]}`

func checkGenerate(t *testing.T, got *GenerationRequest, want string) {
	t.Helper()
	var wanted inferencev1.GenerateRequest
	if err := protojson.Unmarshal([]byte(want), &wanted); err != nil {
		t.Fatal(err)
	}
	if wanted.Sampling == nil {
		wanted.Sampling = &inferencev1.Sampling{}
	}
	if wanted.Stop == nil {
		wanted.Stop = &inferencev1.Stop{}
	}
	if !proto.Equal(got.Generate, &wanted) {
		t.Errorf("got  %v\nwant %v", got.Generate, &wanted)
	}
}

func TestDecodeChatHonours(t *testing.T) {
	cases := []struct{ name, more, want string }{
		{"nothing more", ``, ``},
		{"max_tokens", `"max_tokens":7`, `"max_tokens":7`},
		{"max_completion_tokens", `"max_completion_tokens":7`, `"max_tokens":7`},
		{"both, alike", `"max_completion_tokens":7,"max_tokens":7`, `"max_tokens":7`},
		{"n", `"n":3`, `"choices":3`},
		{"one stop", `"stop":"END"`, `"stop":{"strings":["END"]}`},
		{"stops", `"stop":["a","é\n"]`, `"stop":{"strings":["a","é\n"]}`},
		{"no stops", `"stop":[]`, ``},
		{"temperature", `"temperature":0`, `"sampling":{"temperature":0}`},
		{"temperature of 2", `"temperature":2.0`, `"sampling":{"temperature":2}`},
		{"top_p", `"top_p":0.25`, `"sampling":{"top_p":0.25}`},
		{"top_p of 0 takes the likeliest", `"top_p":0`, `"sampling":{"top_p":1e-45}`},
		{"and so does a very small one", `"top_p":1e-99`, `"sampling":{"top_p":1e-45}`},
		{"top_k", `"top_k":40`, `"sampling":{"top_k":40}`},
		{"top_k that is off", `"top_k":-1`, ``},
		{"numbers that are whole by value", `"max_tokens":16.0,"seed":2e1,"n":2.0`, `"max_tokens":16,"choices":2,"sampling":{"seed":"20"}`},
		{"min_p", `"min_p":0.5`, `"sampling":{"min_p":0.5}`},
		{"penalties", `"frequency_penalty":-2,"presence_penalty":2,"repetition_penalty":1.5`,
			`"sampling":{"frequency_penalty":-2,"presence_penalty":2,"repetition_penalty":1.5}`},
		{"logit_bias", `"logit_bias":{"5":-100,"49151":0.5}`, `"sampling":{"logit_bias":{"5":-100,"49151":0.5}}`},
		{"seed", `"seed":18446744073709551615`, `"sampling":{"seed":"18446744073709551615"}`},
		{"negative seed", `"seed":-1`, `"sampling":{"seed":"18446744073709551615"}`},
		{"stop ids", `"stop_token_ids":[2,0],"ignore_eos":true,"min_tokens":3`, `"stop":{"token_ids":[2,0],"ignore_eos":true,"min_tokens":3}`},
		{"logprobs", `"logprobs":true`, `"top_logprobs":0`},
		{"top_logprobs", `"top_logprobs":20,"logprobs":true`, `"top_logprobs":20`},
		{"no logprobs", `"logprobs":false,"top_logprobs":0`, ``},
		{"text", `"response_format":{"type":"text"}`, ``},
		{"any object", `"response_format":{"type":"json_object"}`, `"format":{"json_object":{}}`},
		{"schema", `"response_format":{"json_schema":{"name":"n","description":"d","strict":true,"schema":{"type": "object"}},"type":"json_schema"}`,
			`"format":{"json_schema":"{\"type\": \"object\"}"}`},
		{"hints", `"user":"u","safety_identifier":"s","metadata":{"a":"b"},"store":true,"prompt_cache_key":"k","prompt_cache_retention":"24h","reasoning_effort":"low","verbosity":"high","service_tier":"flex"`, ``},
		{"what asks for nothing", `"tools":[ ],"tool_choice":"none","parallel_tool_calls":false,"functions":[],"function_call":"none","modalities":[ "text" ]`, ``},
		{"null is absent", `"tools":null,"tool_choice":null,"moderation":null,"prompt_cache_options":null,"prompt_cache_retention":null,"max_tokens":null,"stop":null,"n":null,"response_format":null,"logit_bias":null,"audio":null`, ``},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			more, want := c.more, c.want
			if more != "" {
				more = "," + more
			}
			if want != "" {
				want = "," + want
			}
			got, err := plain.Chat([]byte(hello+more+"}"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got.Dialect != Chat || got.Stream || got.IncludeUsage {
				t.Errorf("got %+v", got)
			}
			checkGenerate(t, got, "{"+helloContract+want+"}")
		})
	}
}

func TestDecodeChatStreams(t *testing.T) {
	for more, want := range map[string][2]bool{
		`"stream":false`:                    {false, false},
		`"stream":true`:                     {true, false},
		`"stream":true,"stream_options":{}`: {true, false},
		`"stream_options":{"include_usage":true,"include_obfuscation":false},"stream":true`: {true, true},
		`"stream":true,"stream_options":null`:                                               {true, false},
	} {
		got, err := plain.Chat([]byte(hello+","+more+"}"), nil)
		if err != nil || got.Stream != want[0] || got.IncludeUsage != want[1] {
			t.Errorf("%s: got %+v, %v", more, got, err)
		}
	}
}

func TestACacheKeyIsNotTheHotPaths(t *testing.T) {
	for more, want := range map[string]string{
		`,"prompt_cache_key":"k"`: "k", `,"prompt_cache_key":null`: "", `,"prompt_cache_key":""`: "", ``: "",
	} {
		got, err := plain.Chat([]byte(hello+more+"}"), nil)
		if err != nil || got.CacheKey != want {
			t.Errorf("%s: got %+v, %v", more, got, err)
			continue
		}
		checkGenerate(t, got, "{"+helloContract+"}")
	}
}

func TestDecodeChatMessages(t *testing.T) {
	body := `{"model":"m","messages":[
		{"role":"system","content":"a"},{"content":"b","role":"developer"},
		{"role":"user","content":[{"type":"text","text":"c"},{"text":"d","type":"text"}]},
		{"role":"assistant","content":"","refusal":null,"annotations":null,"audio":null,"function_call":null,"tool_calls":null},
		{"role":"assistant","content":"","annotations":[],"tool_calls":[]},
		{"role":"assistant","content":"{}","parsed":{"rivers":[{"name":"a"}],"size":null}},{"parsed":[1],"content":"[1]","role":"assistant"},
		{"role":"user","content":"e","parsed":null},
		{"role":"user","content":[]},{"role":"user","content":"<|im_end|>"}]}`
	got, err := plain.Chat([]byte(body), nil)
	if err != nil {
		t.Fatal(err)
	}
	checkGenerate(t, got, `{"model":"m","conversation":{"messages":[
		{"role":"ROLE_SYSTEM","content":"a"},{"role":"ROLE_SYSTEM","content":"b"},{"role":"ROLE_USER","content":"c\nd"},
		{"role":"ROLE_ASSISTANT"},{"role":"ROLE_ASSISTANT"},
		{"role":"ROLE_ASSISTANT","content":"{}"},{"role":"ROLE_ASSISTANT","content":"[1]"},{"role":"ROLE_USER","content":"e"},{"role":"ROLE_USER"},{"role":"ROLE_USER","content":"<|im_end|>"}]}}`)
}

func TestDecodeChatRefusesValues(t *testing.T) {
	long := strings.Repeat("x", 257)
	biases := ""
	for i := range 301 {
		biases += fmt.Sprintf(`,"%d":1`, i)
	}
	for _, c := range []refusal{
		{`"max_tokens":0`, fault.InvalidValue, "max_tokens", "from 1 to 4294967295, not 0. Leave it out for the model's own limit."},
		{`"max_tokens":1.5`, fault.InvalidValue, "max_tokens", "1.5"},
		{`"max_completion_tokens":-1`, fault.InvalidValue, "max_completion_tokens", "-1"},
		{`"max_tokens":5,"max_completion_tokens":6`, fault.InvalidValue, "max_tokens", "max_completion_tokens (6)"},
		{`"n":0`, fault.InvalidValue, "n", "from 1 to 128"},
		{`"n":129`, fault.InvalidValue, "n", "from 1 to 128"},
		{`"n":4294967295`, fault.InvalidValue, "n", "from 1 to 128"},
		{`"n":"2"`, fault.InvalidValue, "n", "a string"},
		{`"stop":1`, fault.InvalidValue, "stop", "a list of strings"},
		{`"stop":""`, fault.InvalidValue, "stop", "1 to 256"},
		{`"stop":["a",""]`, fault.InvalidValue, "stop[1]", "1 to 256"},
		{`"stop":["a",null]`, fault.InvalidValue, "stop[1]", "null"},
		{`"stop":["` + long + `"]`, fault.InvalidValue, "stop[0]", "257 bytes"},
		{`"stop":["a"` + strings.Repeat(`,"a"`, 16) + `]`, fault.InvalidValue, "stop", "more than 16"},
		{`"stop_token_ids":["a"]`, fault.InvalidValue, "stop_token_ids[0]", "a string"},
		{`"stop_token_ids":[1` + strings.Repeat(`,1`, 64) + `]`, fault.InvalidValue, "stop_token_ids", "more than 64"},
		{`"ignore_eos":1`, fault.InvalidValue, "ignore_eos", "true or false"},
		{`"min_tokens":-1`, fault.InvalidValue, "min_tokens", "from 0 to 4294967295"},
		{`"temperature":2.01`, fault.InvalidValue, "temperature", "from 0 to 2, not 2.01"},
		{`"temperature":-0.1`, fault.InvalidValue, "temperature", "-0.1"},
		{`"temperature":"hot"`, fault.InvalidValue, "temperature", "a string"},
		{`"temperature":1e999`, fault.InvalidValue, "temperature", "1e999"},
		{`"top_p":-0.1`, fault.InvalidValue, "top_p", "from 0 to 1"},
		{`"top_p":1.1`, fault.InvalidValue, "top_p", "from 0 to 1"},
		{`"top_k":-2`, fault.InvalidValue, "top_k", "from -1 to 4294967295"},
		{`"top_k":0.5`, fault.InvalidValue, "top_k", "0.5"},
		{`"store":1`, fault.InvalidValue, "store", "true or false"},
		{`"prompt_cache_key":1`, fault.InvalidValue, "prompt_cache_key", "a string"},
		{`"min_p":1.1`, fault.InvalidValue, "min_p", "from 0 to 1"},
		{`"frequency_penalty":2.1`, fault.InvalidValue, "frequency_penalty", "from -2 to 2"},
		{`"presence_penalty":-2.1`, fault.InvalidValue, "presence_penalty", "from -2 to 2"},
		{`"repetition_penalty":0`, fault.InvalidValue, "repetition_penalty", "above 0"},
		{`"repetition_penalty":11`, fault.InvalidValue, "repetition_penalty", "at most 10"},
		{`"logit_bias":[1]`, fault.InvalidValue, "logit_bias", "a list"},
		{`"logit_bias":{"the":1}`, fault.InvalidValue, "logit_bias", `"the"`},
		{`"logit_bias":{"7":101}`, fault.InvalidValue, "logit_bias.7", "from -100 to 100"},
		{`"logit_bias":{"7":null}`, fault.InvalidValue, "logit_bias.7", "null"},
		{`"logit_bias":{"7":1,"07":1}`, fault.InvalidValue, "logit_bias", "once"},
		{`"logit_bias":{` + biases[1:] + `}`, fault.InvalidValue, "logit_bias", "at most 300"},
		{`"seed":1.5`, fault.InvalidValue, "seed", "64 bits"},
		{`"seed":18446744073709551616`, fault.InvalidValue, "seed", "64 bits"},
		{`"logprobs":3`, fault.InvalidValue, "logprobs", "true or false"},
		{`"logprobs":true,"top_logprobs":21`, fault.InvalidValue, "top_logprobs", "from 0 to 20"},
		{`"top_logprobs":1`, fault.InvalidValue, "top_logprobs", `"logprobs": true`},
		{`"stream":"yes"`, fault.InvalidValue, "stream", "true or false"},
		{`"stream_options":{"include_usage":true}`, fault.InvalidValue, "stream_options", `"stream": true`},
		{`"stream":true,"stream_options":{"include_usage":1}`, fault.InvalidValue, "stream_options.include_usage", "true or false"},
		{`"response_format":"json"`, fault.InvalidValue, "response_format", "an object"},
		{`"response_format":{}`, fault.MissingField, "response_format.type", ""},
		{`"response_format":{"type":"yaml"}`, fault.InvalidValue, "response_format.type", "yaml"},
		{`"response_format":{"type":"json_schema"}`, fault.MissingField, "response_format.json_schema", ""},
		{`"response_format":{"type":"json_schema","json_schema":{"name":"n"}}`, fault.MissingField, "response_format.json_schema.schema", ""},
		{`"response_format":{"type":"json_schema","json_schema":{"schema":"s"}}`, fault.InvalidValue, "response_format.json_schema.schema", "JSON Schema"},
		{`"response_format":{"type":"json_object","json_schema":{"schema":{}}}`, fault.InvalidValue, "response_format.json_schema", "json_schema"},
		{`"response_format":{"type":"json_object"},"ignore_eos":true,"min_tokens":1`, fault.InvalidValue, "ignore_eos", "`ignore_eos` cannot go with `response_format`"},
		{`"min_tokens":1,"response_format":{"type":"json_schema","json_schema":{"schema":{}}}`, fault.InvalidValue, "min_tokens", "`min_tokens` cannot go with"},
		{`"user":1`, fault.InvalidValue, "user", "a string"},
		{`"metadata":{"a":1}`, fault.InvalidValue, "metadata.a", "a string"},
		{`"model":"x"`, fault.InvalidJSON, "model", "twice"},
	} {
		_, err := plain.Chat([]byte(hello+","+c.body+"}"), nil)
		checkRefusal(t, c, err)
	}
}

func TestDecodeChatRefusesFieldsByName(t *testing.T) {
	for field, value := range map[string]string{
		"tools": `[{"type":"function"}]`, "tool_choice": `"auto"`, "parallel_tool_calls": `true`, "functions": `[{"name":"f"}]`, "function_call": `"auto"`,
		"audio": `{}`, "modalities": `["text","audio"]`, "prediction": `{}`, "web_search_options": `{}`, "prompt": `"p"`, "best_of": `1`, "echo": `true`, "suffix": `"s"`,
		"use_beam_search": `false`, "nonsense": `1`, "tokenizer": `"m"`,
	} {
		_, err := plain.Chat([]byte(hello+`,"`+field+`":`+value+`}`), nil)
		checkRefusal(t, refusal{field, fault.UnsupportedParameter, field, field}, err)
	}
	for field, value := range map[string]string{
		"best_of": `2`, "suffix": `"s"`, "echo": `true`, "messages": `[]`, "tools": `[]`, "max_completion_tokens": `5`, "top_logprobs": `1`,
	} {
		_, err := plain.Completion([]byte(`{"model":"m","prompt":"a","`+field+`":`+value+`}`), nil)
		checkRefusal(t, refusal{field, fault.UnsupportedParameter, field, field}, err)
	}
	checkRefusal(t, refusal{"", fault.UnsupportedParameter, "stream_options.extra", "extra"}, func() error {
		_, err := plain.Chat([]byte(hello+`,"stream":true,"stream_options":{"extra":1}}`), nil)
		return err
	}())
}

func TestDecodeChatRefusesMessages(t *testing.T) {
	for _, c := range []refusal{
		{`null`, fault.MissingField, "messages", ""},
		{`"hi"`, fault.InvalidValue, "messages", "a list of messages"},
		{`["hi"]`, fault.InvalidValue, "messages[0]", "an object"},
		{`[{"content":"a"}]`, fault.MissingField, "messages[0].role", ""},
		{`[{"role":"user"}]`, fault.MissingField, "messages[0].content", ""},
		{`[{"role":"user","content":null}]`, fault.MissingField, "messages[0].content", ""},
		{`[{"role":"tool","content":"a"}]`, fault.InvalidValue, "messages[0].role", `not "tool"`},
		{`[{"role":"user","content":"a"},{"role":"User","content":"a"}]`, fault.InvalidValue, "messages[1].role", `not "User"`},
		{`[{"role":"user","content":1}]`, fault.InvalidValue, "messages[0].content", "text parts"},
		{`[{"role":"user","content":"a","name":1}]`, fault.InvalidValue, "messages[0].name", "a string"},
		{`[{"role":"assistant","content":"a","reasoning_content":"hm"}]`, fault.UnsupportedParameter, "messages[0].reasoning_content", ""},
		{`[{"role":"assistant","content":"a","tool_calls":[{"id":"c"}]}]`, fault.UnsupportedParameter, "messages[0].tool_calls", ""},
		{`[{"parsed":{},"role":"user","content":"a"}]`, fault.UnsupportedParameter, "messages[0].parsed", "parsed"},
		{`[{"role":"system","content":"a","parsed":1}]`, fault.UnsupportedParameter, "messages[0].parsed", "parsed"},
		{`[{"role":"assistant","content":null,"parsed":{}}]`, fault.MissingField, "messages[0].content", ""},
		{`[{"role":"user","content":["a"]}]`, fault.InvalidValue, "messages[0].content[0]", "an object"},
		{`[{"role":"user","content":[{"type":"text"}]}]`, fault.MissingField, "messages[0].content[0].text", ""},
		{`[{"role":"user","content":[{"text":"a"}]}]`, fault.MissingField, "messages[0].content[0].type", ""},
		{`[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"u"}}]}]`,
			fault.InvalidValue, "messages[0].content[1]", `"image_url": only text`},
		{`[{"role":"user","content":[{"type":"input_audio","input_audio":{}}]}]`, fault.InvalidValue, "messages[0].content[0]", "only text"},
		{`[{"role":"user","content":[{"input_audio":{},"type":"input_audio"}]}]`, fault.InvalidValue, "messages[0].content[0]", "only text"},
		{`[{"role":"user","content":[{"type":"video"}]}]`, fault.InvalidValue, "messages[0].content[0]", `"video"`},
		{`[{"role":"user","content":[{"type":"text","text":"a","cache_control":{}}]}]`, fault.UnsupportedParameter, "messages[0].content[0].cache_control", ""},
	} {
		_, err := plain.Chat([]byte(`{"model":"m","messages":`+c.body+`}`), nil)
		checkRefusal(t, c, err)
	}
}

func TestDecodeCompletion(t *testing.T) {
	for _, c := range [][2]string{
		{`"prompt":"a","max_tokens":600`, `"text":"a","max_tokens":600`},
		{`"prompt":"a"`, `"text":"a"`},
		{`"prompt":["a"]`, `"text":"a"`},
		{`"prompt":""`, `"text":""`},
		{`"prompt":[5,6],"tokenizer":"m"`, `"token_ids":{"ids":[5,6]}`},
		{`"prompt":[[5,6]],"tokenizer":"m"`, `"token_ids":{"ids":[5,6]}`},
		{`"prompt":"a","logprobs":0`, `"text":"a","top_logprobs":0`},
		{`"prompt":"a","logprobs":5,"echo":false,"best_of":null,"suffix":null`, `"text":"a","top_logprobs":5`},
		{`"prompt":"a","best_of":1,"suffix":""`, `"text":"a"`},
		{`"prompt":"a","best_of":1,"n":2`, `"text":"a","choices":2`},
		{`"prompt":"a","max_tokens":16,"temperature":0.5,"n":2,"stop":["b"]`,
			`"text":"a","max_tokens":16,"choices":2,"sampling":{"temperature":0.5},"stop":{"strings":["b"]}`},
	} {
		got, err := plain.Completion([]byte(`{"model":"m",`+c[0]+`}`), nil)
		if err != nil {
			t.Errorf("%s: %v", c[0], err)
			continue
		}
		want := c[1]
		if !strings.Contains(want, "max_tokens") {
			want += `,"max_tokens":16`
		}
		checkGenerate(t, got, `{"model":"m",`+want+`}`)
	}
	for _, c := range []refusal{
		{`"n":1`, fault.MissingField, "prompt", ""},
		{`"prompt":[]`, fault.EmptyInput, "prompt", "empty"},
		{`"prompt":["a","b"],"n":65`, fault.TooManyInputs, "prompt", "2 entries, and n is 65; a reply has at most 128 choices"},
		{`"prompt":["a"` + strings.Repeat(`,"a"`, 128) + `]`, fault.TooManyInputs, "prompt", "129 entries"},
		{`"prompt":["a",[1]]`, fault.InvalidValue, "prompt[1]", "a list"},
		{`"prompt":[1,2]`, fault.TokenizerMismatch, "prompt", `"tokenizer": "m"`},
		{`"prompt":[1,2],"tokenizer":"gpt2"`, fault.TokenizerMismatch, "tokenizer", "gpt2"},
		{`"prompt":7`, fault.InvalidValue, "prompt", "a string"},
		{`"prompt":"a","logprobs":true`, fault.InvalidValue, "logprobs", "a boolean"},
		{`"prompt":"a","logprobs":21`, fault.InvalidValue, "logprobs", "20"},
	} {
		_, err := plain.Completion([]byte(`{"model":"m",`+c.body+`}`), nil)
		checkRefusal(t, c, err)
	}
}

func TestDecodeSeveralPrompts(t *testing.T) {
	for body, want := range map[string][]string{
		`"prompt":["a","","b"],"n":2`:          {`"text":"a"`, `"text":""`, `"text":"b"`},
		`"prompt":[[5],[6,7]],"tokenizer":"m"`: {`"token_ids":{"ids":[5]}`, `"token_ids":{"ids":[6,7]}`},
	} {
		got, err := plain.Completion([]byte(`{"model":"m",`+body+`,"seed":3,"logprobs":1}`), nil)
		if err != nil {
			t.Fatal(err)
		}
		choices, calls := "", got.Calls()
		if calls[0].GetChoices() > 0 {
			choices = `"choices":2,`
		}
		for i, prompt := range want {
			checkGenerate(t, &GenerationRequest{Generate: calls[i]}, `{"model":"m",`+choices+prompt+`,"max_tokens":16,"sampling":{"seed":3},"top_logprobs":1}`)
		}
		if len(calls) != len(want) || got.Choices() != len(want)*int(max(1, calls[0].GetChoices())) {
			t.Errorf("%s: %d calls, %d choices", body, len(calls), got.Choices())
		}
	}
}

func TestErrorsOfGenerationsInTheRequestsTerms(t *testing.T) {
	chat := &GenerationRequest{
		Generate: &inferencev1.GenerateRequest{MaxTokens: 5}, Dialect: Chat, maxTokensField: "max_completion_tokens", singleStop: true,
	}
	completion := &GenerationRequest{Generate: &inferencev1.GenerateRequest{}, Dialect: Completion, maxTokensField: "max_tokens"}
	for _, c := range []struct {
		request      *GenerationRequest
		field, param string
	}{
		{chat, "model", "model"},
		{chat, "conversation.messages[3].content", "messages[3].content"},
		{chat, "conversation.messages[3]", "messages[3]"},
		{chat, "conversation.messages", "messages"},
		{chat, "conversation", "messages"},
		{chat, "prompt", "messages"},
		{completion, "prompt", "prompt"},
		{completion, "text", "prompt"},
		{completion, "token_ids", "prompt"},
		{completion, "token_ids.ids[3]", "prompt[3]"},
		{chat, "max_tokens", "max_completion_tokens"},
		{completion, "max_tokens", "max_tokens"},
		{chat, "choices", "n"},
		{chat, "sampling.temperature", "temperature"},
		{chat, "sampling.logit_bias[5]", "logit_bias"},
		{chat, "stop.strings[0]", "stop"},
		{completion, "stop.strings[2]", "stop[2]"},
		{chat, "stop.token_ids[1]", "stop_token_ids[1]"},
		{chat, "stop.min_tokens", "min_tokens"},
		{chat, "top_logprobs", "top_logprobs"},
		{completion, "top_logprobs", "logprobs"},
		{chat, "format.json_schema", "response_format.json_schema.schema"},
		{chat, "format", "response_format"},
		{chat, "", ""},
	} {
		got := c.request.Explain(fault.InField(fault.InvalidValue, c.field, "`%s` is bad", c.field))
		if got.Reason != fault.InvalidValue || got.Param != c.param || got.Message != "`"+c.param+"` is bad" {
			t.Errorf("%s: got %+v", c.field, got)
		}
	}
	long := &fault.Fault{Reason: fault.InputTooLong, Param: "text", Message: "words of the hot path", Limit: 12, Actual: 14}
	if got := completion.Explain(long); got.Message != "This model's maximum context length is 12 tokens: `prompt` has 13 tokens and `max_tokens` is 1" {
		t.Errorf("got %q", got.Message)
	}
	long.Param = "conversation"
	if got := chat.Explain(long); got.Param != "messages" || got.Message != "This model's maximum context length is 12 tokens: `messages` has 9 tokens and `max_completion_tokens` is 5" {
		t.Errorf("got %+v", got)
	}
	uncounted := &fault.Fault{Reason: fault.InputTooLong, Param: "text", Message: "`text` has too many tokens, the model takes at most 12", Limit: 12}
	if got := completion.Explain(uncounted); got.Message != "This model's maximum context length is 12 tokens: `prompt` has more" {
		t.Errorf("got %q", got.Message)
	}
	schema := fault.InField(fault.InvalidValue, "format.json_schema", "`format.json_schema` cannot be kept to: `a` has a string whose `format` costs too much")
	if got := chat.Explain(schema); got.Message != "`response_format.json_schema.schema` cannot be kept to: `a` has a string whose `format` costs too much" {
		t.Errorf("got %q", got.Message)
	}
	if got := chat.Explain(fault.InField(fault.InvalidValue, "scheduling.priority", "ours")); got.Reason != fault.Internal {
		t.Errorf("got %+v", got)
	}
}

// FuzzDecodeGeneration holds, for any bytes: no panic; what is refused is the client's fault; what is accepted is JSON
// for encoding/json too, and a message that Protobuf takes.
func FuzzDecodeGeneration(f *testing.F) {
	for _, seed := range []string{
		hello + "}", hello + `,"stop":["a"],"logit_bias":{"1":2},"stream":true,"stream_options":{"include_usage":true}}`,
		hello + `,"response_format":{"type":"json_schema","json_schema":{"schema":{"a":[1,null]}}},"seed":-5,"n":2}`,
		`{"model":"m","prompt":[[1,2]],"tokenizer":"m","logprobs":1}`, `{"model":"m","prompt":["a"],"metadata":{"a":"b"}}`,
		`{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"\ud800"}]}]}`, `{"messages":[[[`, `{"input":["a"]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for name, decode := range map[string]func([]byte) (proto.Message, error){
			"chat":       func(body []byte) (proto.Message, error) { return generateOf(plain.Chat(body, nil)) },
			"completion": func(body []byte) (proto.Message, error) { return generateOf(plain.Completion(body, nil)) },
			"moderation": func(body []byte) (proto.Message, error) {
				request, err := plain.Moderation(body, nil)
				if err != nil {
					return nil, err
				}
				return request.Classify, nil
			},
		} {
			message, err := decode(body)
			if err != nil {
				var refused *fault.Fault
				if !errors.As(err, &refused) || table[refused.Reason].status != 400 {
					t.Fatalf("%s: %q: %v", name, body, err)
				}
				continue
			}
			if _, err := proto.Marshal(message); err != nil || !stdjson.Valid(body) {
				t.Fatalf("%s: %q was accepted: %v", name, body, err)
			}
		}
	})
}

func generateOf(request *GenerationRequest, err error) (proto.Message, error) {
	if err != nil {
		return nil, err
	}
	return request.Generate, nil
}

// Thousands of messages are one request of a rate, and one processor decodes them.
func TestManyMessagesAreCheapAndBounded(t *testing.T) {
	const message = `{"role":"user","content":[{"type":"text","text":""}]}`
	body := func(count int) []byte {
		return []byte(`{"model":"m","messages":[` + message + strings.Repeat(","+message, count-1) + `]}`)
	}
	if _, err := plain.Chat(body(maxInputs), nil); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if _, err := plain.Chat(body(maxInputs+1), nil); err == nil || fault.Of(err).Param != "messages" {
		t.Errorf("one more: %v", err)
	}
	few, many := body(100), body(1100)
	allocations := func(body []byte) float64 {
		return testing.AllocsPerRun(10, func() {
			if _, err := plain.Chat(body, nil); err != nil {
				t.Fatal(err)
			}
		})
	}
	if each := (allocations(many) - allocations(few)) / 1000; each > 24 {
		t.Errorf("%.1f allocations for each message", each)
	}
}

func TestManyPartsAreBounded(t *testing.T) {
	const part = `{"type":"text","text":""}`
	body := `{"model":"m","messages":[{"role":"user","content":[` + part + strings.Repeat(","+part, maxInputs) + `]}]}`
	if _, err := plain.Chat([]byte(body), nil); err == nil || fault.Of(err).Param != "messages[0].content" {
		t.Errorf("got %v", err)
	}
}
