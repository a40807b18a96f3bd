package engine

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

// ejected says of each replica whether it is.
func ejected(e *Engine) (all []bool) {
	for _, r := range e.pool.replicas() {
		all = append(all, r.ejection.out.Load())
	}
	return all
}

// embedAt calls one replica alone, as route would.
func embedAt(t *testing.T, e *Engine, place int) {
	t.Helper()
	for i, r := range e.pool.replicas() {
		if i != place {
			r.work.begin(mostTokens)
			defer r.work.end(mostTokens)
		}
	}
	_, _ = e.Embed(t.Context(), request())
}

func TestAReplicaThatFailsIsEjectedUntilItProvesItself(t *testing.T) {
	clock := &clock{}
	e, hotpaths := fleet(t, clock.now, 2)
	broken := status.Error(codes.Internal, "a worker panicked")
	hotpaths[0].SetEmbed(func(context.Context, *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		return nil, broken
	})
	for range failuresToEject {
		if ejected(e)[0] {
			t.Fatal("ejected before its time")
		}
		embedAt(t, e, 0)
	}
	if got := ejected(e); !slices.Equal(got, []bool{true, false}) {
		t.Fatalf("ejected: %v", got)
	}
	e.pool.replicas()[1].work.begin(mostTokens) // which is no reason to ask the other one
	before := callsTo(hotpaths[0])
	for range 20 {
		if _, err := e.Embed(t.Context(), request()); err != nil {
			t.Fatal(err)
		}
	}
	if calls := callsTo(hotpaths[0]) - before; calls != 0 {
		t.Errorf("the ejected one got %d calls", calls)
	}

	clock.advance(firstEjection - 1)
	hotpaths[0].SetEmbed(nil)
	e.check(t.Context())
	if !ejected(e)[0] {
		t.Error("back before its time")
	}
	hotpaths[0].SetEmbed(func(context.Context, *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		return nil, broken
	})
	clock.advance(1)
	if !ejected(e)[0] {
		t.Error("back without a proof")
	}
	e.check(t.Context()) // whose canary fails: for twice as long
	hotpaths[0].SetEmbed(nil)
	clock.advance(2*firstEjection - 1)
	e.check(t.Context())
	if !ejected(e)[0] {
		t.Error("back before its second time is over")
	}
	clock.advance(1)
	e.check(t.Context())
	if ejected(e)[0] {
		t.Error("ejected though a canary succeeded")
	}
	if _, err := e.Embed(t.Context(), request()); err != nil || callsTo(hotpaths[0]) == before {
		t.Errorf("it got no call: %v", err)
	}
}

// TestAReplicaThatLies has one whose canaries succeed, and nothing else.
func TestAReplicaThatLies(t *testing.T) {
	clock := &clock{}
	e, hotpaths := fleet(t, clock.now, 2)
	hotpaths[0].SetEmbed(failing(status.Error(codes.Internal, "broken")))
	failures := 0
	const seconds = 600
	for range seconds {
		for range 20 {
			if _, err := e.Embed(t.Context(), request()); err != nil {
				failures++
			}
		}
		clock.advance(time.Second)
		e.check(t.Context())
	}
	// 1 + 2 + 4 + … + 32 s, and then once a minute.
	if most := failuresToEject * (7 + seconds/60); failures == 0 || failures > most {
		t.Errorf("%d of %d calls failed, want %d at most", failures, 20*seconds, most)
	}

	hotpaths[0].SetEmbed(nil)
	eventually(t, "it is back", func() bool {
		clock.advance(time.Second)
		e.check(t.Context())
		return !ejected(e)[0]
	})
	clock.advance(longestEjection + 1) // it was well for so long
	hotpaths[0].SetEmbed(failing(status.Error(codes.Internal, "broken")))
	for range failuresToEject {
		embedAt(t, e, 0)
	}
	clock.advance(firstEjection)
	if e.check(t.Context()); ejected(e)[0] {
		t.Error("what it did long ago still counts")
	}
}

func TestWhatEjectsAReplica(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"unavailable":          {status.Error(codes.Unavailable, "reset"), true},
		"internal":             {status.Error(codes.Unknown, "panicked"), true},
		"deadline":             {status.Error(codes.DeadlineExceeded, "too late"), true},
		"deadline, as it says": {testkit.RefusalWith(4, "DEADLINE_EXCEEDED", "", "was not its turn in time", 0), false},
		"full queue":           {testkit.RefusalWith(14, "QUEUE_FULL", "", "full", 0), false},
		"bad request":          {testkit.RefusalWith(3, "INVALID_VALUE", "dimensions", "must be small", 0), false},
		"model not ready":      {testkit.RefusalWith(14, "MODEL_NOT_READY", "model", "loading", 0), false},
	} {
		e, hotpaths := fleet(t, time.Now, 2)
		hotpaths[0].SetEmbed(failing(c.err))
		for range 2 * failuresToEject {
			e.pool.replicas()[0].readiness.succeeded(testkit.ModelName, time.Now()) // so that it is asked
			embedAt(t, e, 0)
		}
		if got := ejected(e); got[0] != c.want || got[1] {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestOnlyFailuresInARowCount(t *testing.T) {
	e, hotpaths := fleet(t, time.Now, 2)
	for i := range 4 * failuresToEject {
		hotpaths[0].SetEmbed(failing(status.Error(codes.Internal, "broken")))
		if i%failuresToEject == 0 {
			hotpaths[0].SetEmbed(nil)
		}
		embedAt(t, e, 0)
	}
	if ejected(e)[0] {
		t.Error("ejected, though every fifth call succeeded")
	}
}

func TestACallersOwnDeadlineIsNoFailureOfAReplica(t *testing.T) {
	e, hotpaths := fleet(t, time.Now, 2)
	hotpaths[0].Block()
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for range 2 * failuresToEject {
		if _, err := e.Embed(ctx, request()); reasonOf(err) != "DEADLINE_EXCEEDED" {
			t.Fatal(err)
		}
	}
	if got := ejected(e); got[0] || got[1] {
		t.Errorf("ejected: %v", got)
	}
}

func TestTheLastReplicasAreNotEjected(t *testing.T) {
	for n, most := range map[int]int{1: 0, 2: 1, 3: 1, 4: 2} {
		e, hotpaths := fleet(t, time.Now, n)
		for _, hotpath := range hotpaths {
			hotpath.SetEmbed(failing(status.Error(codes.Internal, "broken")))
		}
		var callers sync.WaitGroup // at once: each of them looks how many there are
		for range 8 {
			callers.Go(func() {
				for range n * failuresToEject {
					_, _ = e.Embed(t.Context(), request())
				}
			})
		}
		callers.Wait()
		out := 0
		for _, is := range ejected(e) {
			if is {
				out++
			}
		}
		if out != most {
			t.Errorf("%d of %d are ejected, want %d", out, n, most)
		}
		for _, hotpath := range hotpaths {
			hotpath.SetEmbed(nil)
		}
		if _, err := e.Embed(t.Context(), request()); err != nil {
			t.Errorf("of %d: %v", n, err)
		}
	}
}

// lost is a connection for calls of which nobody knows yet that it is dead.
type lost struct {
	inferencev1.InferenceServiceClient
}

func (lost) Embed(context.Context, *inferencev1.EmbedRequest, ...grpc.CallOption) (*inferencev1.EmbedResponse, error) {
	return nil, status.Error(codes.DeadlineExceeded, "no answer")
}

// TestAReplicaWhoseCallsAreLostIsNotBack: its looks have another connection, which works.
func TestAReplicaWhoseCallsAreLostIsNotBack(t *testing.T) {
	clock := &clock{}
	e, _ := fleet(t, clock.now, 2)
	r := e.pool.replicas()[0]
	works := r.inference
	r.inference = lost{works}
	for range failuresToEject {
		embedAt(t, e, 0)
	}
	for range 3 {
		clock.advance(longestEjection)
		if e.check(t.Context()); !slices.Equal(ejected(e), []bool{true, false}) {
			t.Fatalf("ejected: %v", ejected(e))
		}
	}
	r.inference = works
	clock.advance(longestEjection)
	if e.check(t.Context()); ejected(e)[0] {
		t.Error("not back though its calls arrive again")
	}
}

// TestAReplicaThatHangs has one that takes what it is sent and answers nothing, as a stopped process.
func TestAReplicaThatHangs(t *testing.T) {
	clock := &clock{}
	e, hotpaths := fleet(t, clock.now, 2)
	e.options.Timeout = 50 * time.Millisecond // which bounds a look too
	var hangs atomic.Bool
	hangs.Store(true)
	hotpaths[0].SetList(func(ctx context.Context) error {
		if hangs.Load() {
			<-ctx.Done()
		}
		return ctx.Err()
	})
	e.pool.replicas()[0].refresh(t.Context())
	if got := ejected(e); !slices.Equal(got, []bool{true, false}) {
		t.Fatalf("after one look: %v", got)
	}
	e.options.Timeout = patience
	hangs.Store(false)
	clock.advance(firstEjection)
	if e.check(t.Context()); ejected(e)[0] {
		t.Error("not back though it answers")
	}
}
