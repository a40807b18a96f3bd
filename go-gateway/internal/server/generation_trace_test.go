package server

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	traces "go.opentelemetry.io/proto/otlp/trace/v1"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

const (
	chatSpan     = "chat " + testkit.ChatModelName
	generateCall = "triptych.inference.v1.InferenceService/Generate"
)

func eventsOf(span *traces.Span) (names []string) {
	for _, event := range span.GetEvents() {
		names = append(names, event.GetName())
	}
	return names
}

func TestAStreamIsOneSpanHoweverManyTokensItHas(t *testing.T) {
	g := startTraced(t, 1)
	if got := g.post("/v1/chat/completions", streamed(oneChat)); got.status != http.StatusOK {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	g.flush()
	stream := g.checkPath("POST /v1/chat/completions", "stream")
	if got := eventsOf(stream); !slices.Equal(got, []string{"first token", "last token"}) {
		t.Errorf("events %q", got)
	}
	g.checkPath("POST /v1/chat/completions", chatSpan, "admit")
	call := g.checkPath("POST /v1/chat/completions", chatSpan, generateCall)
	if len(call.GetEvents()) != 0 || len(g.Spans()) != 7 {
		t.Errorf("%d events, %d spans", len(call.GetEvents()), len(g.Spans()))
	}
	used := testkit.Attributes(g.Named(t, chatSpan))
	if used["gen_ai.operation.name"] != "chat" || used["gen_ai.usage.input_tokens"] != "int_value:4" ||
		used["gen_ai.usage.cache_read.input_tokens"] != "int_value:2" || used["gen_ai.usage.output_tokens"] != "int_value:6" ||
		used["gen_ai.response.finish_reasons"] == "" || used["gen_ai.response.time_to_first_chunk"] == "" {
		t.Errorf("the chat's are %v", used)
	}
}

func TestAClientThatGoesAwayIsTheOutcomeOfItsStream(t *testing.T) {
	g := startTraced(t, 1)
	g.hotpath.SetGenerate(sayOneAndHang)
	sent, events := g.stream("/v1/chat/completions", streamed(oneChat))
	events.next() // role
	events.next() // text
	sent.Body.Close()
	g.accessLine("streamed")
	g.flush()
	for _, name := range []string{"stream", chatSpan, generateCall} {
		if of := testkit.Attributes(g.Named(t, name)); of["error.type"] != "CANCELLED" {
			t.Errorf("%s: %v", name, of)
		}
	}
}

func TestNoSpanOfAGenerationHoldsWhatAClientSent(t *testing.T) {
	g := startTraced(t, 1)
	chat, completion := strings.Replace(oneChat, "hi there", marked, 1), strings.Replace(oneCompletion, "Once upon a time", marked, 1)
	g.hotpath.SetGenerate(func(request *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
		if err := testkit.SendStarted(stream, 3); err != nil {
			return err
		}
		if err := testkit.SendDelta(stream, &inferencev1.GenerateDelta{Text: marked, Tokens: []*inferencev1.GeneratedToken{{Id: 1}}}); err != nil {
			return err
		}
		if request.GetMaxTokens() == 1 {
			return testkit.Refusal(fault.InvalidValue, "text", marked+" is wrong")
		}
		return testkit.SendDone(stream, 3, 1)
	})
	for _, with := range []string{
		"", `"max_tokens":1,`, `"stop":"` + marked + `",`, `"prompt_cache_key":"` + marked + `",`, `"user":"` + marked + `",`, `"` + marked + `":1,`, `"n":2,`,
	} {
		for path, body := range map[string]string{"/v1/chat/completions": chat, "/v1/completions": completion} {
			body = strings.Replace(body, "{", "{"+with, 1)
			g.post(path, body)
			g.post(path, streamed(body))
		}
	}
	g.checkSpansAreClean(100)
}
