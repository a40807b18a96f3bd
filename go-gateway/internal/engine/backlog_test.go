package engine

import (
	"math"
	"testing"
	"time"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

func TestBacklogOf(t *testing.T) {
	for _, c := range []struct {
		queued, running uint64
		rate            float64
		want            time.Duration
	}{
		{0, 0, 1000, 0},
		{1900, 100, 1000, 2 * time.Second},
		{240, 0, 1000, 0},
		{260, 0, 1000, tellInterval},
		{1000, 0, 0, 0},
		{1000, 0, math.NaN(), 0},
		{1 << 63, 1 << 63, 1e-300, longestBacklog},
		{1 << 63, 0, math.Inf(1), 0},
	} {
		said := &inferencev1.ModelLoad{QueuedTokens: c.queued, RunningTokens: c.running, TokensPerSecond: c.rate}
		if got := backlogOf(said); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
	var known backlogs
	if got := known.of("m"); got != 0 {
		t.Errorf("of nothing that was said: %v", got)
	}
	known.tell([]*inferencev1.ModelLoad{{Model: "m", QueuedTokens: 1000, TokensPerSecond: 1000}})
	if known.of("m") != time.Second || known.of("n") != 0 {
		t.Errorf("got %v and %v", known.of("m"), known.of("n"))
	}
	told := &inferencev1.ModelLoad{Model: "m", QueuedTokens: 1, RunningTokens: 2, TokensPerSecond: 3, Rows: 4, MaxRows: 5, WaitingRequests: 6}
	known.tell([]*inferencev1.ModelLoad{told})
	if got := known.said("m"); got != (ModelLoad{1, 2, 3, 4, 5, 6}) || known.said("n") != (ModelLoad{}) {
		t.Errorf("got %+v", got)
	}
	known.forget()
	if got := known.of("m"); got != 0 {
		t.Errorf("of what was forgotten: %v", got)
	}
}
