package main

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

func TestStreamHasAsManyTokensAsAreAskedFor(t *testing.T) {
	stream, err := inferencev1.NewInferenceServiceClient(dialEngine(t)).Generate(t.Context(), &inferencev1.GenerateRequest{MaxTokens: 7})
	if err != nil {
		t.Fatal(err)
	}
	tokens, finished, done := 0, false, false
	for {
		reply, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		tokens += len(reply.GetDelta().GetTokens())
		finished = finished || reply.GetDelta().GetFinish() != nil
		done = done || reply.GetDone().GetCompletionTokens() == 7
	}
	if tokens != 7 || !finished || !done {
		t.Errorf("got %d tokens, finished: %v, done: %v", tokens, finished, done)
	}
}

func TestChatsInOpenAIsForm(t *testing.T) {
	server := httptest.NewServer(routes())
	defer server.Close()
	for body, events := range map[string]int{`{"max_tokens": 3, "stream": true}`: 3, `{"max_tokens": 3}`: 0} {
		reply, err := http.Post(server.URL+"/v1/chat/completions", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := countEvents(reply); err != nil || got != events || reply.StatusCode != http.StatusOK {
			t.Errorf("%s: got %d events, %d, %v", body, got, reply.StatusCode, err)
		}
	}
}
