package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/testkit"
)

// tokensLeft asks what is left of the tokens, by a request that costs none.
func (g *gateway) tokensLeft() string {
	g.Helper()
	return limits(g.post("/v1/tokenize", oneText))[4]
}

func completion(prompt string, more string) string {
	return fmt.Sprintf(`{"model":%q,"prompt":%s%s}`, testkit.ChatModelName, prompt, more)
}

// chargeChecked answers as the hot path does, which refuses what may come to more than is allowed.
func chargeChecked(request *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
	prompt := len(strings.Fields(request.GetText()))
	comes := prompt + int(request.GetMaxTokens()*max(1, request.GetChoices()))
	if allowed := int(request.GetScheduling().GetMaxCharge()); allowed > 0 && comes > allowed {
		return testkit.Refusal(fault.ChargeTooHigh, "", "too much", allowed, comes)
	}
	return testkit.Generate(request, stream)
}

func TestAGenerationHoldsItsMostAndCostsWhatItUses(t *testing.T) {
	g := startGateway(t, limited(quota.Limits{TokensPerMinute: 1000, ConcurrentStreams: 1}))
	for _, body := range []string{completion(`"a b"`, `,"max_tokens":100,"n":2`), streamed(completion(`"a b"`, `,"max_tokens":100,"n":2`))} {
		before := g.tokensLeft()
		got := g.post("/v1/completions", body)
		var left int
		if _, err := fmt.Sscan(before, &left); err != nil {
			t.Fatal(err)
		}
		// 3 bytes with what may be put around them, and 100 for each choice.
		if got.status != http.StatusOK || limits(got)[4] != fmt.Sprint(left-11-200) {
			t.Errorf("%s: got %d %s %v, of %s", body, got.status, got.body, limits(got), before)
		}
		if after := g.tokensLeft(); after != fmt.Sprint(left-2-12) { // the fake says 6 tokens of each choice
			t.Errorf("%s: %s left of %s", body, after, before)
		}
	}
	calls := g.hotpath.Calls()
	for _, call := range calls {
		if call.Generate != nil && call.Generate.GetScheduling().GetMaxCharge() != 211 {
			t.Errorf("allowed %d", call.Generate.GetScheduling().GetMaxCharge())
		}
	}
}

func TestAStreamThatIsCutOffCostsThePromptAndWhatWasSaid(t *testing.T) {
	for what, end := range map[string]func(*http.Response){
		"by its client":   func(sent *http.Response) { sent.Body.Close() },
		"by its deadline": func(*http.Response) {},
	} {
		g := startGateway(t, limited(quota.Limits{TokensPerMinute: 1000, ConcurrentStreams: 1}), func(e *engine.Options, _ *Options) {
			if what == "by its deadline" {
				e.GenerationTimeout = 200 * time.Millisecond
			}
		})
		g.hotpath.SetGenerate(sayOneAndHang)
		sent, events := g.stream("/v1/chat/completions", streamed(oneChat))
		events.next() // role
		events.next() // text
		end(sent)
		g.accessLine("streamed")
		if left := g.tokensLeft(); left != "989" {
			t.Errorf("%s: %s are left", what, left)
		}
		if text := g.scrape(); !strings.Contains(text, `gateway_tokens_total{model="smollm2-135m-instruct",tenant="acme"} 11`+"\n") {
			t.Errorf("%s: counted otherwise", what)
		}
	}
}

func TestAStreamThatFailsOnOurSideCostsNothing(t *testing.T) {
	g := startGateway(t, limited(quota.Limits{TokensPerMinute: 1000, ConcurrentStreams: 1}))
	g.hotpath.SetGenerate(func(_ *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
		if err := sendOne(stream); err != nil {
			return err
		}
		return testkit.Refusal(fault.Internal, "", "secret")
	})
	_, events := g.stream("/v1/chat/completions", streamed(oneChat))
	events.rest()
	g.accessLine("streamed")
	if left := g.tokensLeft(); left != "1000" {
		t.Errorf("%s are left", left)
	}
}

// A prompt of 200 bytes may be as many tokens, and is 20.
func TestAGenerationThatMayBeTooLargeIsCountedFirst(t *testing.T) {
	prompt := `"` + strings.Repeat("ninebytes ", 20) + `"`
	for _, streams := range []bool{false, true} {
		g := startGateway(t, limited(quota.Limits{TokensPerMinute: 100, RequestsPerMinute: 100}))
		g.hotpath.SetGenerate(chargeChecked)
		send := func(more string) reply {
			body := completion(prompt, more)
			if streams {
				body = streamed(body)
			}
			return g.post("/v1/completions", body)
		}
		if got := send(`,"max_tokens":80`); got.status != http.StatusOK || !strings.Contains(string(got.body), "fake") {
			t.Fatalf("got %d %s", got.status, got.body)
		}
		refused := send(`,"max_tokens":70`) // 26 of 100 were used
		if refused.status != http.StatusTooManyRequests || !strings.Contains(refused.err.Message, "comes to 90") || refused.header.Get("retry-after-ms") != "9600" {
			t.Errorf("got %d %s %v", refused.status, refused.body, refused.header)
		}
		g.clock = g.clock.Add(9600 * time.Millisecond)
		if got := send(`,"max_tokens":70`); got.status != http.StatusOK {
			t.Errorf("after as long: got %d %s", got.status, got.body)
		}
		g.clock = g.clock.Add(time.Minute)
		never := send(`,"max_tokens":81`)
		if never.status != http.StatusBadRequest || never.err.Code != "request_too_large" || never.err.Param == nil || *never.err.Param != "max_tokens" ||
			!strings.Contains(never.err.Message, "comes to 101 tokens") {
			t.Errorf("got %d %s", never.status, never.body)
		}
		if told := limits(never); told[1] != "99" || told[4] != "100" {
			t.Errorf("left are %v", told)
		}
	}
}

func TestSeveralPromptsShareWhatIsLeft(t *testing.T) {
	g := startGateway(t, limited(quota.Limits{TokensPerMinute: 100}))
	g.hotpath.SetGenerate(chargeChecked)
	g.hotpath.SetTokenize(func(request *inferencev1.TokenizeRequest) *inferencev1.TokenizeResponse {
		reply := &inferencev1.TokenizeResponse{}
		for _, text := range request.GetTexts() {
			reply.Texts = append(reply.Texts, &inferencev1.TokenizedText{TokenCount: uint32(len(strings.Fields(text)))})
		}
		return reply
	})
	prompts := `["` + strings.Repeat("ninebytes ", 20) + `","` + strings.Repeat("ninebytes ", 10) + `"]`
	if got := g.post("/v1/completions", completion(prompts, `,"max_tokens":35`)); got.status != http.StatusOK { // exactly 100
		t.Fatalf("got %d %s", got.status, got.body)
	}
	if left := g.tokensLeft(); left != "58" { // 30 of prompts, and twice 6
		t.Errorf("%s are left", left)
	}
	got := g.post("/v1/completions", completion(prompts, `,"max_tokens":15`))
	if got.status != http.StatusTooManyRequests || !strings.Contains(got.err.Message, "comes to 60") || got.header.Get("retry-after-ms") != "1200" {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if left := g.tokensLeft(); left != "58" {
		t.Errorf("afterwards %s are left", left)
	}
}

func TestStreamsAtOnceAreLimited(t *testing.T) {
	g := startGateway(t, limited(quota.Limits{ConcurrentStreams: 1}))
	g.hotpath.SetGenerate(sayOneAndHang)
	first, events := g.stream("/v1/chat/completions", streamed(oneChat))
	events.next()
	second := g.post("/v1/chat/completions", streamed(oneChat))
	if second.status != http.StatusTooManyRequests || second.err.Code != "concurrency_limit_exceeded" || !strings.Contains(second.err.Message, "1 streams at once") {
		t.Errorf("got %d %s", second.status, second.body)
	}
	first.Body.Close()
	g.accessLine("streamed")
	g.hotpath.SetGenerate(nil)
	if got := g.post("/v1/chat/completions", streamed(oneChat)); got.status != http.StatusOK {
		t.Errorf("afterwards: got %d %s", got.status, got.body)
	}
}

// Whoever sends more prompts than there are slots for is told how soon so many are free.
func TestTheWaitForRoomOfPromptsIsMeasured(t *testing.T) {
	clock := &stepped{}
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.MaxInflight, o.Now = 16, clock.now })
	began, release := g.hotpath.Block()
	replies := make(chan reply, 1)
	go func() { replies <- g.post("/v1/embeddings", oneText) }()
	<-began
	clock.advance(24 * time.Second)
	close(release)
	if got := <-replies; got.status != http.StatusOK {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	g.slots.TryAcquire("other", 4)
	if got := g.post("/v1/completions", completion(`["a"`+strings.Repeat(`,"a"`, 15)+`]`, "")); waits(got) != [3]string{"24", "24000"} { // all that is held
		t.Errorf("got %d %s %v", got.status, got.body, waits(got))
	}
}
