package openai

import (
	stdjson "encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/telemetry"
)

var (
	epoch  = time.Unix(1_800_000_000, 0)
	length = &inferencev1.Finish{Reason: &inferencev1.Finish_Length{Length: &inferencev1.LengthReached{}}}
	endID  = &inferencev1.Finish{Reason: &inferencev1.Finish_StopTokenId{StopTokenId: 2}}
	phases = []telemetry.Phase{{Name: "queue", Took: 1500 * time.Microsecond}, {Name: "first_token", Took: 2 * time.Second}}
)

func stopAt(text string) *inferencev1.Finish {
	return &inferencev1.Finish{Reason: &inferencev1.Finish_StopString{StopString: text}}
}

func sum() *inferencev1.GenerateDone {
	return &inferencev1.GenerateDone{
		Revision: "0123456789abcdef", PromptTokens: 12, CachedTokens: 8, CompletionTokens: 3,
		Timings: &inferencev1.GenerateTimings{Queue: durationpb.New(time.Millisecond)},
	}
}

// step is one delta whose tokens say its text, a token for each part.
func step(choice uint32, finish *inferencev1.Finish, parts ...string) *inferencev1.GenerateDelta {
	delta := &inferencev1.GenerateDelta{Choice: choice, Text: strings.Join(parts, ""), Finish: finish}
	for i, part := range parts {
		delta.Tokens = append(delta.Tokens, &inferencev1.GeneratedToken{Id: 10 + uint32(i), Bytes: []byte(part), Logprob: -0.25})
	}
	return delta
}

// render returns the whole of a stream.
func render(t *testing.T, request *GenerationRequest, deltas ...*inferencev1.GenerateDelta) string {
	t.Helper()
	chunks, err := NewChunks(request, "req_1", epoch)
	if err != nil {
		t.Fatal(err)
	}
	var stream []byte
	for _, delta := range deltas {
		if stream, err = chunks.AppendDelta(stream, delta); err != nil {
			t.Fatal(err)
		}
	}
	if stream, err = chunks.AppendDone(stream, sum(), phases); err != nil {
		t.Fatal(err)
	}
	return string(stream)
}

func chatOf(more func(*GenerationRequest)) *GenerationRequest {
	request := &GenerationRequest{Generate: &inferencev1.GenerateRequest{Model: "m"}, Dialect: Chat, Stream: true}
	if more != nil {
		more(request)
	}
	return request
}

func TestAStreamedChat(t *testing.T) {
	const head = `data: {"id":"chatcmpl-req_1","object":"chat.completion.chunk","created":1800000000,"model":"m","choices":[`
	got := render(t, chatOf(nil), step(0, nil, "Hel"), step(0, nil), step(0, nil, "lo\n\"", "é"), step(0, endID))
	want := head + `{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}` + "\n\n" +
		head + `{"index":0,"delta":{"content":"Hel"},"logprobs":null,"finish_reason":null}]}` + "\n\n" +
		head + `{"index":0,"delta":{"content":"lo\n\"é"},"logprobs":null,"finish_reason":null}]}` + "\n\n" +
		head + `{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop","stop_reason":2}],"system_fingerprint":"0123456789abcdef",` +
		`"timings":{"queue_ms":1.500,"first_token_ms":2000.000}}` + "\n\n" + "data: [DONE]\n\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAStreamedChatWithUsage(t *testing.T) {
	const head = `data: {"id":"chatcmpl-req_1","object":"chat.completion.chunk","created":1800000000,"model":"m","choices":[`
	got := render(t, chatOf(func(r *GenerationRequest) { r.IncludeUsage, r.Generate.Choices = true, 2 }),
		step(1, length, "a"), step(0, stopAt("\nEND")))
	want := head + `{"index":1,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}` + "\n\n" +
		head + `{"index":1,"delta":{"content":"a"},"logprobs":null,"finish_reason":null}],"usage":null}` + "\n\n" +
		head + `{"index":1,"delta":{},"logprobs":null,"finish_reason":"length"}],"usage":null}` + "\n\n" +
		head + `{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}` + "\n\n" +
		head + `{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop","stop_reason":"\nEND"}],"usage":null}` + "\n\n" +
		head + `],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":8}},` +
		`"system_fingerprint":"0123456789abcdef","timings":{"queue_ms":1.500,"first_token_ms":2000.000}}` + "\n\n" + "data: [DONE]\n\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAStreamedCompletion(t *testing.T) {
	const head = `data: {"id":"cmpl-req_1","object":"text_completion","created":1800000000,"model":"m","choices":[`
	top := uint32(0)
	request := chatOf(func(r *GenerationRequest) { r.Dialect, r.Generate.TopLogprobs = Completion, &top })
	got := render(t, request, step(0, nil, "é", "t"), step(0, nil, "a"), step(0, length))
	want := head + `{"index":0,"text":"ét","logprobs":{"tokens":["é","t"],"token_logprobs":[-0.25,-0.25],"top_logprobs":null,"text_offset":[0,1]},"finish_reason":null}]}` + "\n\n" +
		head + `{"index":0,"text":"a","logprobs":{"tokens":["a"],"token_logprobs":[-0.25],"top_logprobs":null,"text_offset":[2]},"finish_reason":null}]}` + "\n\n" +
		head + `{"index":0,"text":"","logprobs":null,"finish_reason":"length"}],"system_fingerprint":"0123456789abcdef",` +
		`"timings":{"queue_ms":1.500,"first_token_ms":2000.000}}` + "\n\n" + "data: [DONE]\n\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// emoji is one character of two tokens, then a control token; the last token is where the choice stops.
func emoji() *inferencev1.GenerateDelta {
	return &inferencev1.GenerateDelta{Text: " 😀", Finish: endID, Tokens: []*inferencev1.GeneratedToken{
		{Id: 5, Bytes: []byte(" \xf0\x9f"), Logprob: -1, TopLogprobs: []*inferencev1.TokenLogprob{
			{Id: 5, Bytes: []byte(" \xf0\x9f"), Logprob: -1}, {Id: 0, Logprob: float32(math.Inf(-1))}, {Id: 6, Bytes: []byte("a"), Logprob: -20000},
		}},
		{Id: 6, Bytes: []byte("\x98\x80"), Logprob: 1e-9},
		{Id: 1, Logprob: -2},
		{Id: 2, Logprob: -3},
	}}
}

func TestLogprobsOfPartsOfCharacters(t *testing.T) {
	top := uint32(3)
	withTop := func(r *GenerationRequest) { r.Generate.TopLogprobs = &top }
	chat := render(t, chatOf(withTop), emoji())
	want := `"delta":{"content":" 😀"},"logprobs":{"content":[` +
		`{"token":" \\xf0\\x9f","logprob":-1,"bytes":[32,240,159],"top_logprobs":[` +
		`{"token":" \\xf0\\x9f","logprob":-1,"bytes":[32,240,159]},{"token":"token_id:0","logprob":-9999,"bytes":null},{"token":"a","logprob":-9999,"bytes":[97]}]},` +
		`{"token":"\\x98\\x80","logprob":0,"bytes":[152,128],"top_logprobs":[]},` +
		`{"token":"token_id:1","logprob":-2,"bytes":null,"top_logprobs":[]}],"refusal":null},"finish_reason":null}`
	if !strings.Contains(chat, want) {
		t.Errorf("got\n%s\nwant\n%s", chat, want)
	}
	completion := render(t, chatOf(func(r *GenerationRequest) { withTop(r); r.Dialect = Completion }), emoji())
	want = `"text":" 😀","logprobs":{"tokens":["bytes: \\xf0\\x9f","bytes:\\x98\\x80","token_id:1"],"token_logprobs":[-1,0,-2],` +
		`"top_logprobs":[{"bytes: \\xf0\\x9f":-1,"token_id:0":-9999,"a":-9999},{},{}],"text_offset":[0,2,2]},"finish_reason":null}`
	if !strings.Contains(completion, want) {
		t.Errorf("got\n%s\nwant\n%s", completion, want)
	}
}

func TestLogprobsAreToldBeforeTheirTextIs(t *testing.T) {
	top := uint32(0)
	half := &inferencev1.GenerateDelta{Tokens: []*inferencev1.GeneratedToken{{Id: 5, Bytes: []byte("\xf0\x9f"), Logprob: -1}}}
	got := render(t, chatOf(func(r *GenerationRequest) { r.Generate.TopLogprobs = &top }), half, step(0, length))
	if !strings.Contains(got, `"delta":{"content":""},"logprobs":{"content":[{"token":"\\xf0\\x9f"`) {
		t.Errorf("got %s", got)
	}
	if got := render(t, chatOf(nil), half, step(0, length)); strings.Count(got, "data: ") != 3 { // role, end, [DONE]
		t.Errorf("got %s", got)
	}
}

func TestOfTopTokensThatReadAlikeTheLikeliestCounts(t *testing.T) {
	got, err := appendTopMap(nil, []*inferencev1.TokenLogprob{{Id: 1, Bytes: []byte("a"), Logprob: -1}, {Id: 2, Bytes: []byte("a"), Logprob: -2}})
	if err != nil || string(got) != `{"a":-1}` {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestAWholeReply(t *testing.T) {
	top := uint32(0)
	request := chatOf(func(r *GenerationRequest) { r.Generate.Choices, r.Generate.TopLogprobs = 2, &top })
	reply := NewGenerationReply(request)
	for _, delta := range []*inferencev1.GenerateDelta{step(0, nil, "a"), step(1, length, "x"), step(0, stopAt("."), "b")} {
		if err := reply.Add(delta); err != nil {
			t.Fatal(err)
		}
	}
	const logprobs = `"logprob":-0.25,"bytes":`
	got, err := reply.Render(sum(), "req_1", epoch)
	want := `{"id":"chatcmpl-req_1","object":"chat.completion","created":1800000000,"model":"m","choices":[` +
		`{"index":0,"message":{"role":"assistant","content":"ab","refusal":null},"logprobs":{"content":[` +
		`{"token":"a",` + logprobs + `[97],"top_logprobs":[]},{"token":"b",` + logprobs + `[98],"top_logprobs":[]}],"refusal":null},"finish_reason":"stop","stop_reason":"."},` +
		`{"index":1,"message":{"role":"assistant","content":"x","refusal":null},"logprobs":{"content":[` +
		`{"token":"x",` + logprobs + `[120],"top_logprobs":[]}],"refusal":null},"finish_reason":"length"}],` +
		`"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":8}},"system_fingerprint":"0123456789abcdef"}`
	if err != nil || string(got) != want {
		t.Errorf("got\n%s, %v\nwant\n%s", got, err, want)
	}
	completion := NewGenerationReply(chatOf(func(r *GenerationRequest) { r.Dialect = Completion }))
	if err := completion.Add(step(0, length, "é")); err != nil {
		t.Fatal(err)
	}
	got, err = completion.Render(sum(), "req_1", epoch)
	want = `{"id":"cmpl-req_1","object":"text_completion","created":1800000000,"model":"m","choices":[{"index":0,"text":"é","logprobs":null,"finish_reason":"length"}],`
	if err != nil || !strings.HasPrefix(string(got), want) {
		t.Errorf("got\n%s, %v", got, err)
	}
}

// brokenStreams are streams that the contract does not allow.
var brokenStreams = map[string][]*inferencev1.GenerateDelta{
	"a choice that nobody asked for": {step(2, nil, "a")},
	"words after the end":            {step(0, length, "a"), step(0, nil, "b")},
	"two ends":                       {step(0, length), step(0, length)},
	"an end without a reason":        {step(0, &inferencev1.Finish{})},
	"a sum before all ends":          {step(0, length)},
	"no choices":                     {},
	"no number": {{Tokens: []*inferencev1.GeneratedToken{{Logprob: float32(math.NaN())}}},
		step(0, length), step(1, length)},
}

func TestABrokenStreamIsNeverAReply(t *testing.T) {
	top := uint32(0)
	for name, deltas := range brokenStreams {
		for _, dialect := range []*Dialect{Chat, Completion} {
			request := chatOf(func(r *GenerationRequest) { r.Dialect, r.Generate.Choices, r.Generate.TopLogprobs = dialect, 2, &top })
			if got, err := streamOf(request, deltas); err == nil {
				t.Errorf("%s: streamed as %s", name, got)
			}
			if got, err := replyOf(request, deltas); err == nil {
				t.Errorf("%s: replied as %s", name, got)
			}
		}
	}
}

func streamOf(request *GenerationRequest, deltas []*inferencev1.GenerateDelta) (stream []byte, err error) {
	chunks, err := NewChunks(request, "req_1", epoch)
	for _, delta := range deltas {
		if err == nil {
			stream, err = chunks.AppendDelta(stream, delta)
		}
	}
	if err == nil {
		stream, err = chunks.AppendDone(stream, sum(), phases)
	}
	return stream, err
}

func replyOf(request *GenerationRequest, deltas []*inferencev1.GenerateDelta) (body []byte, err error) {
	reply := NewGenerationReply(request)
	for _, delta := range deltas {
		if err == nil {
			err = reply.Add(delta)
		}
	}
	if err == nil {
		body, err = reply.Render(sum(), "req_1", epoch)
	}
	return body, err
}

func TestRenderStreamError(t *testing.T) {
	status, event := (&Chunks{}).RenderError(fault.New(fault.HotpathUnavailable, "words"), "req_1")
	want := `data: {"error":{"message":"words","type":"overloaded_error","param":null,"code":"hotpath_unavailable"}}` + "\n\n"
	if status != 503 || string(event) != want {
		t.Errorf("got %d %q", status, event)
	}
}

// FuzzStreamsAreEventsOfJSON holds, for any text: each event is one line of JSON, and together they say the text.
func FuzzStreamsAreEventsOfJSON(f *testing.F) {
	for _, seed := range []string{"a", "\n\ndata: x\n\n", "\r\n", "\u2028\u0000", `"\`, "😀é", "</script>"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ToValidUTF8(text, "")
		stream, err := streamOf(chatOf(nil), []*inferencev1.GenerateDelta{step(0, nil, text), step(0, length)})
		if err != nil {
			t.Fatal(err)
		}
		said := ""
		events := strings.Split(string(stream), "\n\n")
		for _, event := range events[:len(events)-2] { // [DONE], and nothing
			var chunk struct {
				Choices []struct{ Delta struct{ Content string } }
			}
			data, isData := strings.CutPrefix(event, "data: ")
			if !isData || strings.ContainsAny(data, "\r\n") || stdjson.Unmarshal([]byte(data), &chunk) != nil {
				t.Fatalf("%q has the event %q", text, event)
			}
			said += chunk.Choices[0].Delta.Content
		}
		if said != text {
			t.Fatalf("%q became %q", text, said)
		}
	})
}

// BenchmarkAppendDelta is what the gateway's rendering costs for each token.
func BenchmarkAppendDelta(b *testing.B) {
	top := uint32(5)
	for name, request := range map[string]*GenerationRequest{
		"chat":          chatOf(nil),
		"completion":    chatOf(func(r *GenerationRequest) { r.Dialect = Completion }),
		"chat-logprobs": chatOf(func(r *GenerationRequest) { r.Generate.TopLogprobs = &top }),
	} {
		b.Run(name, func(b *testing.B) {
			chunks, err := NewChunks(request, "req_ABCDEFGHIJKLMNOPQRSTUVWXYZ", epoch)
			if err != nil {
				b.Fatal(err)
			}
			delta := step(0, nil, " token")
			var buffer []byte
			b.ReportAllocs()
			for b.Loop() {
				if buffer, err = chunks.AppendDelta(buffer[:0], delta); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
