package server

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/testkit"
)

func TestIdsOfRepliesDoNotRepeat(t *testing.T) {
	g := startGateway(t)
	seen := map[string]bool{}
	for _, path := range []string{"/v1/chat/completions", "/v1/chat/completions", "/v1/completions", "/v1/completions", "/v1/moderations", "/v1/moderations"} {
		body := map[string]string{
			"/v1/chat/completions": oneChat, "/v1/moderations": `{"input":"a"}`,
			"/v1/completions": `{"model":"` + testkit.ChatModelName + `","prompt":"a"}`,
		}[path]
		got := g.post(path, body, "X-Request-Id", "always-the-same")
		var decoded struct{ ID string }
		if err := json.Unmarshal(got.body, &decoded); err != nil || got.status != 200 || decoded.ID == "" {
			t.Fatalf("%s: got %d %s", path, got.status, got.body)
		}
		seen[decoded.ID] = true
		if got.header.Get("x-request-id") != "always-the-same" {
			t.Errorf("the request's id became %q", got.header.Get("x-request-id"))
		}
	}
	if len(seen) != 6 {
		t.Errorf("6 replies have the ids %v", seen)
	}
}

func TestPagesMayReadStreams(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, options *Options) { options.CORSOrigins = []string{pageOrigin} })
	g.hotpath.SetModels(testkit.Model(), testkit.ChatModel())
	got := g.post("/v1/chat/completions", streamed(oneChat), "Origin", pageOrigin)
	if got.status != http.StatusOK || got.header.Get("Access-Control-Allow-Origin") != pageOrigin {
		t.Errorf("got %d %v", got.status, got.header)
	}
}

func TestUnknownFieldsOfAStreamAreNamed(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, options *Options) { options.IgnoreUnknownFields = true })
	g.hotpath.SetModels(testkit.Model(), testkit.ChatModel())
	chat := `{"model":"` + testkit.ChatModelName + `","messages":[{"role":"user","content":"a","mood":"b"}],"stream":true}`
	if got := g.post("/v1/chat/completions", chat); got.status != http.StatusOK || !strings.Contains(got.header.Get("Warning"), "messages[0].mood") {
		t.Errorf("a stream: got %d, %q", got.status, got.header.Get("Warning"))
	}
	if got := g.post("/v1/chat/completions", strings.Replace(chat, `"stream"`, `"tools":[1],"stream"`, 1)); got.status != http.StatusBadRequest {
		t.Errorf("a known field that is not taken: got %d", got.status)
	}
}

func TestWhatTheHotpathIsToldOfAChat(t *testing.T) {
	g := startGateway(t)
	g.post("/v1/chat/completions", oneChat)
	call := g.hotpath.Calls()[0]
	g.checkTold(call, call.Generate)
}

func TestLogsTellNothingThatAChatSays(t *testing.T) {
	g := startGateway(t)
	const words = "confidential-words"
	for param, body := range map[string]string{
		"unknown field of a field": `{"stream_options":{"` + words + `":1}}`,
		"stop":                     `{"stop":["a",1]}`,
		"metadata":                 `{"metadata":{"` + words + `":1}}`,
		"logit_bias":               `{"logit_bias":{"` + words + `":1}}`,
		"twice":                    `{"metadata":{"` + words + `":"a","` + words + `":"a"}}`,
		"no Unicode":               `{"metadata":{"` + words + `":"` + "\xff" + `"}}`,
	} {
		if got := g.post("/v1/chat/completions", body, "X-Request-Id", strings.ReplaceAll(param, " ", "-")); got.status != 400 || got.err.Param == nil {
			t.Errorf("%s: got %d %s", param, got.status, got.body)
		}
	}
	for id, want := range map[string]any{"unknown-field-of-a-field": "stream_options", "stop": "stop[1]", "metadata": "metadata", "logit_bias": "logit_bias"} {
		if line := g.accessLine(id); line["param"] != want {
			t.Errorf("%s is logged with the param %v", id, line["param"])
		}
	}
	g.checkNotLogged(words)
}
