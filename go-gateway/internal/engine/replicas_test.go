package engine

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/status"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

func TestASlowListChangesNothing(t *testing.T) {
	hotpath, clock := testkit.StartHotpath(t, "127.0.0.1:0"), &clock{}
	e := newEngine(t, 50*time.Millisecond, clock.now, hotpath.Address)
	eventually(t, "ready", func() bool { e.check(t.Context()); return ready(e) })
	hotpath.SetList(func(ctx context.Context) error {
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	})
	clock.advance(10 * time.Second)
	e.check(t.Context()) // whose canary succeeds
	models, err := e.Models()
	if !ready(e) || err != nil || len(models) != 1 {
		t.Errorf("after one slow list: ready %v, %v, %v", ready(e), models, err)
	}
	if _, replicas := e.Ready(); replicas[0].ListAge != 10*time.Second || replicas[0].ListError == nil {
		t.Errorf("operators are told %+v", replicas[0])
	}
	clock.advance(5 * time.Second)
	e.check(t.Context())
	if _, err := e.Models(); ready(e) || reasonOf(err) != "HOTPATH_UNAVAILABLE" {
		t.Errorf("when the list is as old as the ready window: ready %v, %v", ready(e), err)
	}
	hotpath.SetList(nil)
	e.check(t.Context())
	if !ready(e) {
		t.Error("not ready though all is well again")
	}
}

func TestACanaryThatHangsIsNotWaitedFor(t *testing.T) {
	hotpath, clock := testkit.StartHotpath(t, "127.0.0.1:0"), &clock{}
	began, _ := hang(hotpath)
	e := newEngine(t, patience, clock.now, hotpath.Address)
	ctx, cancel := context.WithCancel(t.Context())
	refresh := e.pool.replicas()[0].refresh
	refresh(ctx)
	await(t, "canary", began)
	hotpath.SetModels(testkit.Model(), testkit.ModerationModel())
	for range 5 {
		clock.advance(10 * time.Second)
		refresh(ctx)
	}
	if models, err := e.Models(); err != nil || len(models) != 2 {
		t.Errorf("beside a canary that hangs: %v, %v", models, err)
	}
	eventually(t, "the other model's canary", func() bool {
		statuses := modelStatuses(e)
		return len(statuses) == 2 && statuses[1].Proven
	})
	if len(began) != 0 {
		t.Errorf("%d more canaries of one model at a time", len(began))
	}
	cancel()
	e.pool.replicas()[0].canaries.Wait()
}

func TestARefusalForLackOfRoomGoesToNoOtherReplica(t *testing.T) {
	hotpaths := []*testkit.Hotpath{testkit.StartHotpath(t, "127.0.0.1:0"), testkit.StartHotpath(t, "127.0.0.1:0")}
	for _, hotpath := range hotpaths {
		hotpath.SetEmbed(func(context.Context, *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
			return nil, testkit.RefusalWith(14, "QUEUE_FULL", "", "full", 0)
		})
	}
	e := newEngine(t, patience, time.Now, hotpaths[0].Address, hotpaths[1].Address)
	if _, err := e.Embed(t.Context(), request()); reasonOf(err) != "QUEUE_FULL" {
		t.Errorf("got %v", err)
	}
	if calls := len(hotpaths[0].Calls()) + len(hotpaths[1].Calls()); calls != 1 {
		t.Errorf("%d calls for one request", calls)
	}
}

func TestCallsGoWhereThereIsLessToDo(t *testing.T) {
	busy, free := testkit.StartHotpath(t, "127.0.0.1:0"), testkit.StartHotpath(t, "127.0.0.1:0")
	e := newEngine(t, patience, time.Now, busy.Address, free.Address)
	eventually(t, "both connections", func() bool { return e.pool.replicas()[0].connected() && e.pool.replicas()[1].connected() })
	e.check(t.Context())
	e.pool.replicas()[0].work.begin(3)
	for range 20 {
		if _, err := e.Embed(t.Context(), request()); err != nil {
			t.Fatal(err)
		}
	}
	if calls := len(busy.Calls()); calls != 0 {
		t.Errorf("%d of 20 calls went to the one with more to do", calls)
	}
}

func TestWhatChangesIsLoggedWithItsCause(t *testing.T) {
	hotpath, clock := testkit.StartHotpath(t, "127.0.0.1:0"), &clock{}
	e, log := newLoggedEngine(t, patience, clock.now, hotpath.Address)
	says := func(what string, parts ...string) {
		t.Helper()
		for range 3 {
			e.check(t.Context()) // of which only the first has news
		}
		lines := strings.Count(log.String(), "\n")
		for _, part := range append(parts, hotpath.Address) {
			if !strings.Contains(log.String(), part) {
				t.Errorf("%s: no %q in: %s", what, part, log)
			}
		}
		if lines != 1 {
			t.Errorf("%s: %d lines: %s", what, lines, log)
		}
		log.Reset()
	}
	says("at first", `"state":"ready"`, `"level":"INFO"`, testkit.ModelName)
	hotpath.SetEmbed(func(context.Context, *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		return nil, testkit.RefusalWith(14, "MODEL_NOT_READY", "model", "the session is broken", 0)
	})
	clock.advance(10 * time.Second)
	says("a failing model", `"state":"unproven"`, `"level":"WARN"`, "the session is broken")
	hotpath.SetEmbed(nil)
	says("a model that works again", `"state":"ready"`)
	failed := testkit.Model()
	failed.State, failed.StatusMessage = inferencev1.ModelState_MODEL_STATE_FAILED, "the bundle is torn"
	hotpath.SetModels(failed)
	says("a model that failed", `"state":"failed"`, "the bundle is torn")
	hotpath.SetModels(testkit.ModerationModel(), testkit.Model())
	e.check(t.Context())
	log.Reset()
	hotpath.SetModels(testkit.Model())
	says("a model that is gone", "a model is gone", testkit.ModerationModelName)
	hotpath.Stop()
	eventually(t, "the end of the connection", func() bool { return !e.pool.replicas()[0].connected() })
	says("a replica that is away", `"state":"away"`, `"level":"WARN"`, "cause")
}

func TestOfTwoReplicasTheOneThatServesAModelTellsOfIt(t *testing.T) {
	loading, ready := testkit.StartHotpath(t, "127.0.0.1:0"), testkit.StartHotpath(t, "127.0.0.1:0")
	model := testkit.Model()
	model.State = inferencev1.ModelState_MODEL_STATE_LOADING
	loading.SetModels(model)
	for _, addresses := range [][]string{{loading.Address, ready.Address}, {ready.Address, loading.Address}} {
		e := newEngine(t, patience, time.Now, addresses...)
		if got := e.Model(testkit.ModelName); got != nil {
			t.Errorf("known before any replica told: %v", got)
		}
		eventually(t, "both lists", func() bool {
			e.check(t.Context())
			_, replicas := e.Ready()
			return len(replicas[0].Models) == 1 && len(replicas[1].Models) == 1
		})
		listed, err := e.Models()
		got := e.Model(testkit.ModelName)
		if err != nil || len(listed) != 1 || got != listed[0] || !isServed(got) {
			t.Errorf("got %v, of %v, %v", got, listed, err)
		}
		if got := e.Model("unknown"); got != nil {
			t.Errorf("got %v", got)
		}
	}
}

// TestTheReplicaWithLessToDo: what others have sent to a replica counts as much as what this gateway has.
func TestTheReplicaWithLessToDo(t *testing.T) {
	busy, idle := testkit.StartHotpath(t, "127.0.0.1:0"), testkit.StartHotpath(t, "127.0.0.1:0")
	e := newEngine(t, patience, time.Now, busy.Address, idle.Address)
	go e.Watch(t.Context())
	eventually(t, "both prove that they work", func() bool {
		statuses := modelStatuses(e)
		return len(statuses) == 2 && statuses[0].Proven && statuses[1].Proven
	})
	embed := func() (toBusy, toIdle int) {
		atBusy, atIdle := len(busy.Calls()), len(idle.Calls())
		for range 40 {
			if _, err := e.Embed(t.Context(), request()); err != nil {
				t.Fatal(err)
			}
		}
		return len(busy.Calls()) - atBusy, len(idle.Calls()) - atIdle
	}

	load := func(queued uint64) *inferencev1.ModelLoad {
		return &inferencev1.ModelLoad{Model: testkit.ModelName, QueuedTokens: queued, RunningTokens: 100}
	}
	busy.SetLoad(load(1900))
	idle.SetLoad(load(100))
	known := func(replica int) int64 { return e.pool.replicas()[replica].work.load() }
	eventually(t, "the load is known", func() bool { return known(0) == 2000 && known(1) == 200 })
	e.pool.replicas()[1].work.begin(300)
	if toBusy, _ := embed(); toBusy != 0 {
		t.Errorf("%d of 40 calls went to the replica that has more to do", toBusy)
	}
	e.pool.replicas()[1].work.end(300)

	busy.SetLoad(load(100))
	eventually(t, "the work is done", func() bool { return known(0) == 200 && known(1) == 200 })
	toBusy, toIdle := 0, 0
	eventually(t, "of equals each gets calls", func() bool { // which what is told while one runs can favour for a moment
		moreToBusy, moreToIdle := embed()
		toBusy, toIdle = toBusy+moreToBusy, toIdle+moreToIdle
		return toBusy > 0 && toIdle > 0
	})

	busy.SetLoad(load(1900))
	eventually(t, "the load is known", func() bool { return known(0) == 2000 })
	busy.Stop()
	eventually(t, "what it was told of a process that is gone is forgotten", func() bool { return known(0) == 0 })
}

func TestALoadIsBounded(t *testing.T) {
	huge := &inferencev1.ModelLoad{QueuedTokens: math.MaxUint64, RunningTokens: math.MaxUint64}
	if got := toldTokens([]*inferencev1.ModelLoad{huge, huge}); got != mostTokens {
		t.Errorf("got %d", got)
	}
	one := &inferencev1.ModelLoad{QueuedTokens: 3, RunningTokens: 4}
	if got := toldTokens([]*inferencev1.ModelLoad{one, one}); got != 14 {
		t.Errorf("got %d", got)
	}
}
