package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

const (
	oneChat       = `{"model":"smollm2-135m-instruct","messages":[{"role":"user","content":"hi there"}]}`
	oneCompletion = `{"model":"smollm2-135m-instruct","prompt":"Once upon a time"}`
)

func TestAChatIsAnswered(t *testing.T) {
	g := startGateway(t)
	got := g.post("/v1/chat/completions", oneChat, "X-Request-Id", "my-id")
	want := `^\{"id":"chatcmpl-[A-Z2-7]{26}","object":"chat\.completion","created":\d{10},"model":"smollm2-135m-instruct","choices":\[` +
		`\{"index":0,"message":\{"role":"assistant","content":"Hello from the fake\.","refusal":null\},"logprobs":null,"finish_reason":"stop","stop_reason":2\}\],` +
		`"usage":\{"prompt_tokens":4,"completion_tokens":6,"total_tokens":10,"prompt_tokens_details":\{"cached_tokens":2\}\},"system_fingerprint":"0123456789abcdef"\}$`
	if got.status != http.StatusOK || !regexp.MustCompile(want).Match(got.body) || got.header.Get("content-type") != "application/json" {
		t.Errorf("got %d %s", got.status, got.body)
	}
	timing := got.header.Get("server-timing")
	if !regexp.MustCompile(`^tokenize;dur=0\.100, queue;dur=0\.200, prefill;dur=3\.000, decode;dur=40\.000, first_token;dur=[\d.]+, total;dur=[\d.]+$`).MatchString(timing) {
		t.Errorf("server-timing %q", timing)
	}
}

func TestACompletionIsAnswered(t *testing.T) {
	g := startGateway(t)
	got := g.post("/v1/completions", strings.Replace(oneCompletion, "{", `{"n":2,"max_tokens":2,`, 1))
	want := `"choices":\[\{"index":0,"text":"Hello from","logprobs":null,"finish_reason":"length"\},\{"index":1,"text":"Hello from","logprobs":null,"finish_reason":"length"\}\],` +
		`"usage":\{"prompt_tokens":4,"completion_tokens":4,"total_tokens":8,`
	if got.status != http.StatusOK || !regexp.MustCompile(want).Match(got.body) {
		t.Errorf("got %d %s", got.status, got.body)
	}
	ids := g.post("/v1/completions", `{"model":"smollm2-135m-instruct","prompt":[1,2,3],"tokenizer":"smollm2-135m-instruct","max_tokens":1}`)
	if ids.status != http.StatusOK || !slices.Equal(g.hotpath.Calls()[1].Generate.GetTokenIds().GetIds(), []uint32{1, 2, 3}) {
		t.Errorf("got %d %s", ids.status, ids.body)
	}
}

func TestAKeyContinuesWithItsModelsAlone(t *testing.T) {
	for scope, want := range map[string]int{"model:" + testkit.ModelName: 403, "model:nothing": 403, "model:" + testkit.ChatModelName: 200, "endpoint:/v1/embeddings": 403} {
		g := startGateway(t, restricted(scope))
		for path, body := range map[string]string{"/v1/chat/completions": oneChat, "/v1/completions": oneCompletion} {
			for _, body := range []string{body, streamed(body)} {
				if got := g.post(path, body); got.status != want {
					t.Errorf("%s of a key for %s: got %d %s", path, scope, got.status, got.body)
				}
			}
		}
		if calls := g.hotpath.Calls(); (len(calls) > 0) != (want == 200) {
			t.Errorf("%s: the hot path was asked %d times", scope, len(calls))
		}
	}
}

func TestRefusalsOfTheHotpathNameTheRequestsFields(t *testing.T) {
	g := startGateway(t)
	for _, c := range []struct{ path, body, code, param string }{
		{"/v1/chat/completions", `{"model":"smollm2-135m-instruct","messages":[]}`, "empty_input", "messages"},
		{"/v1/chat/completions", strings.Replace(oneChat, "{", `{"max_completion_tokens":5000,`, 1), "context_length_exceeded", "messages"},
		{"/v1/chat/completions", strings.Replace(oneChat, "{", `{"n":9,`, 1), "invalid_value", "n"},
		{"/v1/chat/completions", strings.Replace(oneChat, "smollm2-135m-instruct", "all-minilm-l6-v2", 1), "model_task_mismatch", "model"},
		{"/v1/completions", strings.Replace(oneCompletion, "smollm2-135m-instruct", "none", 1), "model_not_found", "model"},
		{"/v1/completions", `{"model":"smollm2-135m-instruct","prompt":""}`, "empty_input", "prompt"},
		{"/v1/completions", `{"model":"smollm2-135m-instruct","prompt":[1,60000],"tokenizer":"smollm2-135m-instruct"}`, "token_id_out_of_range", "prompt"},
		{"/v1/embeddings", `{"model":"smollm2-135m-instruct","input":"a"}`, "model_task_mismatch", "model"},
		{"/v1/moderations", `{"input":["a",""]}`, "empty_input", "input[1]"},
		{"/v1/moderations", `{"input":""}`, "empty_input", "input"},
	} {
		for _, body := range []string{c.body, strings.Replace(c.body, "{", `{"stream":true,`, 1)} {
			if body != c.body && !strings.Contains(c.path, "completions") {
				continue
			}
			got := g.post(c.path, body)
			if got.status < 400 || got.status > 404 || got.err.Code != c.code || got.err.Param == nil || *got.err.Param != c.param {
				t.Errorf("%s %s: got %d %s", c.path, body, got.status, got.body)
			}
		}
	}
}

func TestAGenerationMayTakeLongerThanARequest(t *testing.T) {
	const timeout = 20 * time.Millisecond
	g := startGateway(t, func(e *engine.Options, _ *Options) { e.Timeout = timeout })
	g.hotpath.SetGenerate(func(request *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
		select {
		case <-time.After(3 * timeout): // the generation takes its time
			return testkit.Generate(request, stream)
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	})
	if got := g.post("/v1/chat/completions", oneChat); got.status != http.StatusOK {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestAGenerationIsBounded(t *testing.T) {
	g := startGateway(t, func(e *engine.Options, _ *Options) { e.GenerationTimeout = 50 * time.Millisecond })
	left := make(chan struct{}, 1)
	g.hotpath.SetGenerate(func(_ *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
		<-stream.Context().Done()
		left <- struct{}{}
		return stream.Context().Err()
	})
	for _, body := range []string{oneChat, streamed(oneChat)} {
		got := g.post("/v1/chat/completions", body)
		if got.status != http.StatusGatewayTimeout || got.err.Code != "deadline_exceeded" || !strings.Contains(got.err.Message, "50ms") {
			t.Errorf("got %d %s", got.status, got.body)
		}
		g.await("the end of the work", left)
	}
}

func TestAClientThatLeavesEndsItsGeneration(t *testing.T) {
	g := startGateway(t)
	left := make(chan struct{}, 1)
	for name, says := range map[string]bool{"queued": false, "decoding": true} {
		for _, body := range []string{oneChat, streamed(oneChat)} {
			began := make(chan struct{}, 1)
			g.hotpath.SetGenerate(func(_ *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
				if says {
					if err := testkit.SendDelta(stream, &inferencev1.GenerateDelta{Text: "a"}); err != nil {
						return err
					}
				}
				began <- struct{}{}
				<-stream.Context().Done()
				left <- struct{}{}
				return stream.Context().Err()
			})
			ctx, leave := context.WithCancel(t.Context())
			requestID := fmt.Sprintf("leaver-%s-%d", name, len(body))
			go func() { <-began; leave() }()
			g.open(ctx, "/v1/chat/completions", body, requestID)
			g.await("the end of the work for "+requestID, left)
			if line := g.accessLine(requestID); line["reason"] != "CANCELLED" || line["status"] != 499.0 {
				t.Errorf("logged as %v", line)
			}
		}
	}
	g.eventually("no request in flight", func() bool { return g.slots.Used() == 0 })
}

func TestAnotherModelsTurnIsRefusedInTime(t *testing.T) {
	g := startGateway(t)
	g.hotpath.SetGenerate(func(*inferencev1.GenerateRequest, testkit.GenerateStream) error {
		return testkit.RefusalWith(codes.Unavailable, string(fault.QueueFull), "", "the queue is full", 3*time.Second)
	})
	for _, body := range []string{oneChat, streamed(oneChat)} {
		got := g.post("/v1/chat/completions", body)
		if got.status != http.StatusServiceUnavailable || got.err.Code != "queue_full" || got.header.Get("retry-after") != "3" {
			t.Errorf("got %d %v %s", got.status, got.header, got.body)
		}
	}
}

func TestGenerationsAreCountedAndLogged(t *testing.T) {
	g := startGateway(t)
	const words = "confidential-words"
	g.post("/v1/chat/completions", streamed(strings.Replace(oneChat, "hi there", words, 1)), "X-Request-Id", "streamed")
	g.post("/v1/completions", strings.Replace(oneCompletion, "{", `{"n":2,"max_tokens":3,`, 1), "X-Request-Id", "whole")
	line := g.accessLine("streamed")
	for name, want := range map[string]any{
		"status": 200.0, "reason": "OK", "tenant": "acme", "model": testkit.ChatModelName, "route": "/v1/chat/completions",
		"prompt_tokens": 3.0, "cached_tokens": 1.0, "completion_tokens": 6.0, "queue_ms": 0.2, "prefill_ms": 3.0, "decode_ms": 40.0,
		"finish_reasons": "[stop]",
	} {
		if got := line[name]; got != want && fmt.Sprint(got) != want {
			t.Errorf("%s is %v in %v", name, got, line)
		}
	}
	if first, ok := line["first_token_ms"].(float64); !ok || first <= 0 {
		t.Errorf("no time to the first token in %v", line)
	}
	if line := g.accessLine("whole"); fmt.Sprint(line["finish_reasons"]) != "[length length]" {
		t.Errorf("got %v", line)
	}
	if log := g.log.String(); strings.Contains(log, words) || strings.Contains(log, "Hello") {
		t.Errorf("the log holds what was said:\n%s", log)
	}
	for _, line := range []string{
		`gateway_requests_total{reason="OK",route="/v1/chat/completions",status="200"} 1`,
		`gateway_tokens_total{model="smollm2-135m-instruct",tenant="acme"} 19`,
		`gateway_generated_tokens_total{model="smollm2-135m-instruct",tenant="acme"} 12`,
		`gateway_cached_tokens_total{model="smollm2-135m-instruct",tenant="acme"} 3`,
		`gateway_first_token_seconds_count{model="smollm2-135m-instruct"} 2`,
		`gateway_finished_choices_total{finish_reason="stop",model="smollm2-135m-instruct"} 1`,
		`gateway_finished_choices_total{finish_reason="length",model="smollm2-135m-instruct"} 2`,
		`gateway_hotpath_seconds_count{method="Generate",outcome="OK"} 2`,
		`gateway_tenant_seconds_total{phase="decode",tenant="acme"} 0.08`,
	} {
		g.eventually(line+" in the metrics", func() bool { return strings.Contains(g.scrape(), line) })
	}
}

func TestTheFirstTokensTimeBeginsWithTheWholeRequest(t *testing.T) {
	g := startGateway(t)
	const upload = 300 * time.Millisecond
	connection := g.dial()
	head := strings.Replace(g.head(len(oneChat)), "/v1/embeddings", "/v1/chat/completions", 1)
	fmt.Fprintf(connection, "%s%s", head, oneChat[:10])
	time.Sleep(upload) // a slow client
	fmt.Fprint(connection, oneChat[10:])
	sent, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil || sent.StatusCode != http.StatusOK {
		t.Fatalf("got %v, %v", sent, err)
	}
	g.read(sent)
	var sum []string
	counted := regexp.MustCompile(`gateway_first_token_seconds_sum\{model="smollm2-135m-instruct"\} (\S+)`)
	g.eventually("the first token's time in the metrics", func() bool {
		sum = counted.FindStringSubmatch(g.scrape())
		return sum != nil
	})
	if seconds, err := strconv.ParseFloat(sum[1], 64); err != nil || seconds >= upload.Seconds() {
		t.Errorf("a fake's first token took %v s after an upload of %v, %v", seconds, upload, err)
	}
}

func TestModelsOfEveryTaskAreListed(t *testing.T) {
	g := startGateway(t)
	g.hotpath.SetModels(testkit.Model(), testkit.ModerationModel(), testkit.ChatModel())
	g.eventually("three models", func() bool { return strings.Count(string(g.get("/v1/models").body), `"object":"model"`) == 3 })
	chat := string(g.get("/v1/models/" + testkit.ChatModelName).body)
	for _, part := range []string{`"task":"generation"`, `"max_choices":8`, `"max_tokens":2048`, `"default_max_tokens":256`, `"chat":true`} {
		if !strings.Contains(chat, part) {
			t.Errorf("%s is missing from %s", part, chat)
		}
	}
	if got := string(g.get("/v1/models/" + testkit.ModerationModelName).body); !strings.Contains(got, `"task":"classification"`) || strings.Contains(got, "chat") {
		t.Errorf("got %s", got)
	}
}

// answerPrompts lets each choice say its prompt's text and its number.
func answerPrompts(g *gateway) {
	g.hotpath.SetModels(testkit.Model(), testkit.ChatModel())
	g.hotpath.SetGenerate(func(request *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
		if err := testkit.SendStarted(stream, 4); err != nil {
			return err
		}
		for choice := range max(1, request.GetChoices()) {
			delta := &inferencev1.GenerateDelta{
				Choice: choice, Text: fmt.Sprintf("%s%d", request.GetText(), choice), Tokens: []*inferencev1.GeneratedToken{{Id: 1}},
				Finish: &inferencev1.Finish{Reason: &inferencev1.Finish_Length{Length: &inferencev1.LengthReached{}}},
			}
			if err := testkit.SendDelta(stream, delta); err != nil {
				return err
			}
		}
		return testkit.SendDone(stream, 4, max(1, request.GetChoices()))
	})
}

func TestSeveralPromptsHaveTheirChoicesInOrder(t *testing.T) {
	g := startGateway(t)
	answerPrompts(g)
	body := `{"model":"` + testkit.ChatModelName + `","prompt":["a","b","c"],"n":2`
	got := g.post("/v1/completions", body+"}")
	var reply struct {
		Choices []struct {
			Index int
			Text  string
		}
	}
	if err := json.Unmarshal(got.body, &reply); err != nil {
		t.Fatalf("%v: %s", err, got.body)
	}
	for i, choice := range reply.Choices {
		if want := fmt.Sprintf("%c%d", 'a'+i/2, i%2); choice.Index != i || choice.Text != want {
			t.Errorf("choice %d: got %+v, want %s", i, choice, want)
		}
	}
	if len(reply.Choices) != 6 || !strings.Contains(string(got.body), `"prompt_tokens":12,"completion_tokens":6`) {
		t.Errorf("got %s", got.body)
	}
	if calls := g.hotpath.Calls(); len(calls) != 3 {
		t.Errorf("%d calls", len(calls))
	}
	streamed := string(g.post("/v1/completions", body+`,"stream":true}`).body)
	for i := range 6 {
		if want := fmt.Sprintf(`"index":%d,"text":"%c%d"`, i, 'a'+i/2, i%2); strings.Count(streamed, want) != 1 {
			t.Errorf("no %s in %s", want, streamed)
		}
	}
	if !strings.HasSuffix(streamed, "data: [DONE]\n\n") {
		t.Errorf("got %s", streamed)
	}
}

func TestAPromptThatIsRefusedEndsTheOthers(t *testing.T) {
	g := startGateway(t)
	ended := make(chan struct{})
	runs := make(chan struct{})
	g.hotpath.SetModels(testkit.Model(), testkit.ChatModel())
	g.hotpath.SetGenerate(func(request *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
		if request.GetText() != "endless" {
			<-runs
			return testkit.RefusalWith(codes.InvalidArgument, "INPUT_TOO_LONG", "text", "`text` is too long", 0)
		}
		close(runs)
		<-stream.Context().Done()
		close(ended)
		return stream.Context().Err()
	})
	start := time.Now()
	got := g.post("/v1/completions", `{"model":"`+testkit.ChatModelName+`","prompt":["endless","long"]}`)
	if got.status != http.StatusBadRequest || got.err.Param == nil || *got.err.Param != "prompt[1]" || !strings.HasPrefix(got.err.Message, "`prompt[1]` is") {
		t.Errorf("got %d %s", got.status, got.body)
	}
	<-ended
	if took := time.Since(start); took > patience/2 {
		t.Errorf("the other one ended after %v: by its own deadline", took)
	}
	g.stillServes()
}

func TestEachPromptTakesASlot(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, options *Options) { options.MaxInflight = 10 })
	answerPrompts(g)
	body := func(count int) string {
		return `{"model":"` + testkit.ChatModelName + `","prompt":["a"` + strings.Repeat(`,"a"`, count-1) + `]}`
	}
	if got := g.post("/v1/completions", body(4)); got.status != http.StatusOK {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if got := g.post("/v1/completions", body(9)); got.status != http.StatusServiceUnavailable {
		t.Errorf("more than a tenant's share: got %d %s", got.status, got.body)
	}
	g.stillServes()
}

func TestWhoLeavesEndsAllPrompts(t *testing.T) {
	g := startGateway(t)
	g.hotpath.SetModels(testkit.Model(), testkit.ChatModel())
	ended := make(chan struct{}, 3)
	g.hotpath.SetGenerate(func(_ *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
		if err := testkit.SendDelta(stream, &inferencev1.GenerateDelta{Text: "a", Tokens: []*inferencev1.GeneratedToken{{Id: 1}}}); err != nil {
			return err
		}
		<-stream.Context().Done()
		ended <- struct{}{}
		return stream.Context().Err()
	})
	ctx, leave := context.WithCancel(t.Context())
	body := `{"model":"` + testkit.ChatModelName + `","prompt":["a","b","c"],"stream":true}`
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+"/v1/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+g.keys["acme"])
	sent, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer sent.Body.Close()
	lines := bufio.NewScanner(sent.Body)
	for said := 0; said < 3 && lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "data: ") {
			said++
		}
	}
	leave()
	for range 3 {
		select {
		case <-ended:
		case <-time.After(patience):
			t.Fatal("a prompt goes on for nobody")
		}
	}
	g.stillServes()
}
