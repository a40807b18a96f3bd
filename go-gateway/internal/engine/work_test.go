package engine

import (
	"strings"
	"testing"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

func TestALoadIsWhatWasToldAndWhatCameSince(t *testing.T) {
	var w work
	loads := func(what string, want int64) {
		t.Helper()
		if got := w.load(); got != want {
			t.Errorf("%s: %d tokens, want %d", what, got, want)
		}
	}
	w.begin(100)
	loads("nothing was told", 100)
	w.tell(1000) // of which those 100 are part
	loads("told", 1000)
	w.begin(50)
	loads("50 more since", 1050)
	w.end(100)
	loads("100 done since", 950)
	w.tell(20) // fewer than what is outstanding was thought to cost
	loads("what is outstanding counts", 50)
	w.tell(1000)
	w.forget()
	loads("nothing is known any longer", 50)
	w.end(50)
	loads("all is done", 0)
}

func TestAReplicaThatLeavesTakesNoCallAndSaysWhenItIsIdle(t *testing.T) {
	var w work
	w.begin(1)
	w.begin(1)
	if w.leave() {
		t.Error("idle with two calls")
	}
	if w.begin(1) {
		t.Error("takes a call")
	}
	if w.end(1) || !w.end(1) {
		t.Error("the second call is the last one")
	}
	if idle := new(work); !idle.leave() {
		t.Error("not idle without calls")
	}
}

func TestWhatACallCosts(t *testing.T) {
	inputs := []*inferencev1.EmbedInput{
		{Input: &inferencev1.EmbedInput_Text{Text: strings.Repeat("a", 41)}},
		{Input: &inferencev1.EmbedInput_TokenIds{TokenIds: &inferencev1.TokenIds{Ids: []uint32{1, 2, 3}}}},
	}
	held := &inferencev1.Scheduling{MaxCharge: 77}
	for what, c := range map[string]struct{ got, want int64 }{
		"texts and ids":      {tokensOf(&inferencev1.EmbedRequest{Inputs: inputs}), 11 + 3},
		"what is held":       {tokensOf(&inferencev1.EmbedRequest{Inputs: inputs, Scheduling: held}), 77},
		"nothing":            {tokensOf(&inferencev1.EmbedRequest{}), 1},
		"more than most":     {tokensOf(&inferencev1.EmbedRequest{Scheduling: &inferencev1.Scheduling{MaxCharge: 1 << 63}}), mostTokens},
		"classification":     {tokensOf(&inferencev1.ClassifyRequest{Texts: []string{"abcd", "abcde"}}), 3},
		"tokenization":       {tokensOf(&inferencev1.TokenizeRequest{Texts: []string{strings.Repeat("a", 4*64*5)}}), 5},
		"of a later version": {tokensOf("anything"), 1},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", what, c.got, c.want)
		}
	}
}
