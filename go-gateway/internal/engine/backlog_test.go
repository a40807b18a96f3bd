package engine

import (
	"math"
	"testing"
	"time"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
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

func TestTheFastestIsMeasuredAtWork(t *testing.T) {
	var known backlogs
	tell := func(queued, running uint64, rate float64) {
		known.tell([]*inferencev1.ModelLoad{{Model: "m", QueuedTokens: queued, RunningTokens: running, TokensPerSecond: rate}})
	}
	for _, c := range []struct {
		queued, running uint64
		rate, want      float64
	}{
		{0, busyTokens - 1, 900, 0}, {busyTokens, 0, 400, 400}, {0, busyTokens, 700, 700}, {busyTokens, 0, 500, 700}, {0, 0, 900, 700}, {busyTokens, 0, 0, 700},
	} {
		if tell(c.queued, c.running, c.rate); known.known("m").fastest != c.want {
			t.Errorf("after %+v: %v", c, known.known("m").fastest)
		}
	}
	known.forget()
	if tell(0, 0, 900); known.known("m").fastest != 0 {
		t.Error("it is known of what may be another process")
	}
}

func TestTheFastestOfReplicas(t *testing.T) {
	one, other := testkit.StartHotpath(t, "127.0.0.1:0"), testkit.StartHotpath(t, "127.0.0.1:0")
	e := newEngine(t, patience, time.Now, one.Address, other.Address)
	go e.Watch(t.Context())
	eventually(t, "both prove that they work", func() bool {
		statuses := modelStatuses(e)
		return len(statuses) == 2 && statuses[0].Proven && statuses[1].Proven
	})
	load := func(rate float64) *inferencev1.ModelLoad {
		return &inferencev1.ModelLoad{Model: testkit.ModelName, QueuedTokens: busyTokens, TokensPerSecond: rate}
	}
	one.SetLoad(load(500))
	eventually(t, "what one says", func() bool { return e.pool.replicas()[0].backlogs.of(testkit.ModelName) > 0 })
	if got := e.Fastest(testkit.ModelName); got != 0 {
		t.Errorf("%v, though the other one may be faster", got)
	}
	other.SetLoad(load(800))
	eventually(t, "the faster one's", func() bool { return e.Fastest(testkit.ModelName) == 800 })
}
