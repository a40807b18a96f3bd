package engine

import (
	"testing"
	"time"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

func TestWhatAGenerationCosts(t *testing.T) {
	hotpath := testkit.StartHotpath(t, "127.0.0.1:0")
	hotpath.SetModels(testkit.ChatModel())
	e := newEngine(t, patience, time.Now, hotpath.Address)
	request := generateRequest() // of two tokens
	costs := func(what string, want int64) {
		t.Helper()
		if got := e.generationCost(request); got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	costs("a model that is not known", 2+usualMaxTokens)
	eventually(t, "the list", func() bool { e.check(t.Context()); return e.Model(testkit.ChatModelName) != nil })
	costs("as long as the model says", 2+int64(e.Model(testkit.ChatModelName).GetDefaultMaxTokens()))
	request.MaxTokens, request.Choices = 100, 3
	costs("each choice", 2+300)
	request.Prompt = &inferencev1.GenerateRequest_Conversation{Conversation: &inferencev1.Conversation{
		Messages: []*inferencev1.Message{{Content: "abcd"}, {Content: "a"}},
	}}
	costs("a conversation", 2+300)
	request.Scheduling.MaxCharge = 17
	costs("what is held", 17)
}
