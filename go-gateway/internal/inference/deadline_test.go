package inference

import (
	"context"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

func TestWords(t *testing.T) {
	for text, want := range map[string]int64{
		"": 0, "a": 1, " a\tb\r\nc ": 3, "don't stop-here": 2, "... a": 1, "日本語 のテキスト": 0, "\u200b \u0301": 0, "x1\u00a0y2": 1, strings.Repeat("word ", 1000): 1000,
	} {
		if got := words(text); got != want {
			t.Errorf("%.20q has %d", text, got)
		}
	}
}

// tokenIDs is an input of so many.
func tokenIDs(count int) *inferencev1.EmbedInput {
	return &inferencev1.EmbedInput{Input: &inferencev1.EmbedInput_TokenIds{TokenIds: &inferencev1.TokenIds{Ids: make([]uint32, count)}}}
}

func TestTheLeastOfARequest(t *testing.T) {
	s := newService(&counter{})
	text := func(text string) *inferencev1.EmbedInput {
		return &inferencev1.EmbedInput{Input: &inferencev1.EmbedInput_Text{Text: text}}
	}
	long := text(strings.Repeat("a ", testkit.MaxTokens+1))
	for name, c := range map[string]struct {
		request *inferencev1.EmbedRequest
		want    int64
	}{
		"texts and ids":    {&inferencev1.EmbedRequest{Inputs: []*inferencev1.EmbedInput{text("one two"), tokenIDs(5)}}, 7},
		"too long":         {&inferencev1.EmbedRequest{Inputs: []*inferencev1.EmbedInput{text("one"), long}}, 0},
		"cut":              {&inferencev1.EmbedRequest{Inputs: []*inferencev1.EmbedInput{text("one"), long}, Truncate: true}, testkit.MaxTokens + 1},
		"too many":         {&inferencev1.EmbedRequest{Inputs: make([]*inferencev1.EmbedInput, testkit.MaxInputs+1)}, 0},
		"of no such model": {&inferencev1.EmbedRequest{Model: "none", Inputs: []*inferencev1.EmbedInput{text("one")}}, 0},
	} {
		if c.request.Model == "" {
			c.request.Model = testkit.ModelName
		}
		if got := s.leastOfInputs(c.request); got != c.want {
			t.Errorf("%s: %d, not %d", name, got, c.want)
		}
	}
	judging := newService(judge{})
	request := &inferencev1.ClassifyRequest{Texts: []string{strings.Repeat("a ", 10*testkit.MaxTokens), "b"}}
	if got := judging.leastOfTexts(request); got != 10*testkit.MaxTokens+1 {
		t.Errorf("of texts that are judged in parts: %d", got)
	}
	if embeds, judges := judging.leastOfInputs(&inferencev1.EmbedRequest{Inputs: []*inferencev1.EmbedInput{text("a")}}), s.leastOfTexts(request); embeds+judges != 0 {
		t.Errorf("of a model for something else: %d and %d", embeds, judges)
	}
}

// judge is an engine whose models classify.
type judge struct{ counter }

func (judge) Backlog(string) time.Duration { return 0 }
func (judge) Fastest(string) float64       { return 0 }
func (judge) Embed(context.Context, *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
	return nil, nil
}

func (judge) Model(string) *inferencev1.Model {
	return &inferencev1.Model{Task: inferencev1.Task_TASK_CLASSIFICATION, Limits: &inferencev1.Limits{MaxInputs: 2}}
}

// TestWhatTakesTooLongByItself has both sides of the border: the fastest that was measured, surely times.
func TestWhatTakesTooLongByItself(t *testing.T) {
	const tokens, rate = 2000, 100 // 5 s at least
	embed := func(engine *counter, left time.Duration, ahead float64) *fault.Fault {
		ctx, cancel := context.WithTimeout(t.Context(), left)
		defer cancel()
		request := &inferencev1.EmbedRequest{Model: testkit.ModelName}
		for range tokens / 200 {
			request.Inputs = append(request.Inputs, tokenIDs(200))
		}
		s := newService(engine)
		_, usage, err := s.Embed(ctx, Call{Principal: acme, Ahead: ahead}, request)
		if err != nil {
			return fault.Of(err)
		}
		s.Settle(ctx, acme, usage, nil)
		return nil
	}
	engine := &counter{tokens: tokens, fastest: rate}
	if got := embed(engine, 4900*time.Millisecond, 0); got == nil || got.Reason != fault.DeadlineExceeded || !strings.Contains(got.Message, "takes 5s or more by itself") {
		t.Errorf("got %+v", got)
	}
	if len(engine.charges) != 0 {
		t.Error("the model was asked")
	}
	if got := embed(engine, 5500*time.Millisecond, 0); got != nil {
		t.Errorf("of what may be done: %+v", got)
	}
	engine.backlog = 4 * time.Second
	if got := embed(engine, 8*time.Second, 1); got == nil || got.Reason != fault.QueueFull || !strings.Contains(got.Message, "takes about 4s, it takes 5s or more itself") ||
		got.RetryAfter < time.Second || got.RetryAfter > 2*time.Second {
		t.Errorf("with what is ahead: %+v", got)
	}
	if got := embed(engine, 10*time.Second, 1); got != nil {
		t.Errorf("with what is ahead, in time: %+v", got)
	}
	if got := embed(&counter{tokens: tokens}, time.Second, 0); got != nil {
		t.Errorf("where the rate is not known: %+v", got)
	}
}
