package engine

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

// clock is a time that only the test moves.
type clock struct{ elapsed atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(1_800_000_000, c.elapsed.Load()) }
func (c *clock) advance(d time.Duration) { c.elapsed.Add(int64(d)) }

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func ready(e *Engine) bool {
	ready, _ := e.Ready()
	return ready
}

func TestReadyMeansARecentInference(t *testing.T) {
	hotpath, clock := testkit.StartHotpath(t, "127.0.0.1:0"), &clock{}
	e := newEngine(t, patience, clock.now, hotpath.Address)
	if _, err := e.Models(); ready(e) || reasonOf(err) != "HOTPATH_UNAVAILABLE" {
		t.Errorf("before the first check: ready %v, %v", ready(e), err)
	}
	e.check(t.Context())
	if models, err := e.Models(); !ready(e) || err != nil || len(models) != 1 {
		t.Errorf("after a check: ready %v, %v, %v", ready(e), models, err)
	}
	clock.advance(15*time.Second - 1)
	if !ready(e) {
		t.Error("not ready 1 ns before the window ends")
	}
	clock.advance(1)
	if ready(e) {
		t.Error("ready at the window's end, though nothing succeeded in it")
	}
}

func TestCanariesRunOnlyWhenNobodyElseDoes(t *testing.T) {
	hotpath, clock := testkit.StartHotpath(t, "127.0.0.1:0"), &clock{}
	e := newEngine(t, patience, clock.now, hotpath.Address)
	checkFor := func(seconds int, traffic bool) int {
		before := hotpath.Canaries()
		for range seconds {
			clock.advance(time.Second)
			if traffic {
				if _, err := e.Embed(t.Context(), request()); err != nil {
					t.Fatal(err)
				}
			}
			e.check(t.Context())
		}
		return hotpath.Canaries() - before
	}
	if canaries := checkFor(11, false); canaries != 3 { // at 1, 6 and 11 s
		t.Errorf("%d canaries in 11 idle seconds", canaries)
	}
	if canaries := checkFor(20, true); canaries != 0 {
		t.Errorf("%d canaries beside real requests", canaries)
	}
}

func TestAFailingModelIsTriedAtEveryCheck(t *testing.T) {
	hotpath, clock := testkit.StartHotpath(t, "127.0.0.1:0"), &clock{}
	e := newEngine(t, patience, clock.now, hotpath.Address)
	e.check(t.Context())
	hotpath.SetEmbed(func(context.Context, *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		return nil, testkit.RefusalWith(14, "MODEL_NOT_READY", "model", "inference fails", 0)
	})
	if _, err := e.Embed(t.Context(), request()); reasonOf(err) != "MODEL_NOT_READY" || ready(e) {
		t.Errorf("ready %v after %v", ready(e), err)
	}
	before := hotpath.Canaries()
	e.check(t.Context())
	e.check(t.Context())
	if ready(e) || hotpath.Canaries() != before+2 {
		t.Errorf("ready %v after %d canaries", ready(e), hotpath.Canaries()-before)
	}
	hotpath.SetEmbed(nil)
	e.check(t.Context())
	if !ready(e) {
		t.Error("not ready though the model works again")
	}
}

func TestARestartMustProveItself(t *testing.T) {
	hotpath, clock := testkit.StartHotpath(t, "127.0.0.1:0"), &clock{}
	e := newEngine(t, patience, clock.now, hotpath.Address)
	e.check(t.Context())
	hotpath.Stop()
	e.check(t.Context())
	if _, err := e.Models(); ready(e) || reasonOf(err) != "HOTPATH_UNAVAILABLE" {
		t.Errorf("without a hot path: ready %v, %v", ready(e), err)
	}
	again := testkit.StartHotpath(t, hotpath.Address)
	hang(again)
	deadline := time.Now().Add(patience)
	for models, err := e.Models(); err != nil || len(models) == 0; models, err = e.Models() {
		if time.Now().After(deadline) {
			t.Fatal("no list after the restart")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		e.check(ctx)
		cancel()
	}
	if ready(e) {
		t.Error("ready on the word of the process that died")
	}
	again.SetEmbed(nil)
	e.check(t.Context())
	if !ready(e) {
		t.Error("not ready though the new process works")
	}
}

func TestAQuickRestartIsNoticed(t *testing.T) {
	hotpath := testkit.StartHotpath(t, "127.0.0.1:0")
	e := newEngine(t, patience, time.Now, hotpath.Address)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { e.Watch(ctx); close(ended) }()
	eventually(t, "ready", func() bool { return ready(e) })
	hotpath.Stop()
	again := testkit.StartHotpath(t, hotpath.Address)
	began, _ := hang(again)
	eventually(t, "not ready", func() bool { return !ready(e) })
	await(t, "canary for the new process", began)
	if ready(e) {
		t.Error("ready on the word of the process that died")
	}
	cancel()
	await(t, "end of Watch", ended)
}

func TestReadyByModelStates(t *testing.T) {
	model := func(name string, state inferencev1.ModelState) *inferencev1.Model {
		return &inferencev1.Model{Name: name, State: state, Task: inferencev1.Task_TASK_EMBEDDING}
	}
	const good, idle = testkit.ModelName, "never-used"
	const loading, serves, failed = inferencev1.ModelState_MODEL_STATE_LOADING, inferencev1.ModelState_MODEL_STATE_READY, inferencev1.ModelState_MODEL_STATE_FAILED
	cases := []struct {
		name   string
		models []*inferencev1.Model
		want   bool
	}{
		{"none", nil, false},
		{"one serves", []*inferencev1.Model{model(good, serves)}, true},
		{"one loads", []*inferencev1.Model{model(good, loading)}, false},
		{"one failed", []*inferencev1.Model{model(good, failed)}, false},
		{"another still loads", []*inferencev1.Model{model(good, serves), model(idle, loading)}, false},
		{"another failed", []*inferencev1.Model{model(good, serves), model(idle, failed)}, true},
		{"another does not answer", []*inferencev1.Model{model(good, serves), model(idle, serves)}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			hotpath, clock := testkit.StartHotpath(t, "127.0.0.1:0"), &clock{}
			hotpath.SetModels(c.models...)
			e := newEngine(t, patience, clock.now, hotpath.Address)
			e.check(t.Context())
			if got, statuses := ready(e), modelStatuses(e); got != c.want || len(statuses) != len(c.models) {
				t.Errorf("ready %v, %+v", got, statuses)
			}
		})
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	hotpath := testkit.StartHotpath(t, "127.0.0.1:0")
	e := newEngine(t, patience, time.Now, hotpath.Address)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { e.Watch(ctx); close(ended) }()
	eventually(t, "ready", func() bool { return ready(e) })
	cancel()
	await(t, "end of Watch", ended)
}
