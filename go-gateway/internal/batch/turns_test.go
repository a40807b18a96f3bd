package batch

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"triptych.dev/gateway/internal/store"
)

// A suspect waits for what runs, however long that takes, and keeps others from beginning for half of the time at most.
func TestWhoeverIsToBeAloneStopsNobodyForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := NewTurns(&store.Store{})
		const long = 24 * time.Minute
		begun, waits := time.Now(), make(chan time.Duration, 1)
		end, err := turns.Beside(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(long, end)
		go func() {
			end, err := turns.wait(t.Context())
			if err != nil {
				t.Error(err)
			}
			waits <- time.Since(begun)
			end()
		}()
		synctest.Wait()
		stopped := time.Duration(0)
		for time.Since(begun) < long {
			asked := time.Now()
			end, err := turns.Beside(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			stopped += time.Since(asked)
			time.Sleep(100 * time.Millisecond)
			end()
		}
		if since := <-waits; since < long || since > 2*long || stopped < closedFor || stopped > long/2+closedFor {
			t.Errorf("the suspect has begun after %v, and stopped others for %v of them", since, stopped)
		}
	})
}

func TestWhoWaitsForATurnHeedsItsContext(t *testing.T) {
	turns := NewTurns(&store.Store{})
	end, err := turns.Beside(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	suspect := make(chan error, 1)
	go func() {
		_, err := turns.wait(ctx)
		suspect <- err
	}()
	eventually(t, "the door is closed", func() bool {
		if !turns.places.TryAcquire(1) {
			return true
		}
		turns.places.Release(1)
		return false
	})
	other := make(chan error, 1)
	go func() {
		_, err := turns.Beside(ctx)
		other <- err
	}()
	cancel(errTest)
	for _, ended := range []chan error{suspect, other} {
		if err := <-ended; !errors.Is(err, errTest) {
			t.Errorf("got %v", err)
		}
	}
	end()
	if !turns.suspects.TryAcquire(1) || !turns.places.TryAcquire(everybody) {
		t.Error("a turn was lost")
	}
}

var errTest = errors.New("a test")

// A line that takes long is not given up for the sake of those that end the hot path while another gateway runs them.
func TestALineIsAloneInAllGateways(t *testing.T) {
	t.Parallel() // it mostly waits
	options := store.Options{DatabaseURL: postgres.Get(t).NewDatabase(t)}
	h := newHotpath(50 * time.Millisecond)
	h.slow = 3 * time.Second
	folder := t.TempDir()
	gateway := func() *fixture {
		f := &fixture{T: t, folder: folder}
		f.open(options, store.Gateway)
		return f
	}
	var runs, beside atomic.Int64 // the long one, once it is a suspect; what begins then
	execute := func(ctx context.Context, request Request) Reply {
		if bytes.Contains(request.Body, []byte("poison")) {
			beside.Add(runs.Load())
		} else if h.died() > 0 {
			runs.Add(1)
			defer runs.Add(-1)
		}
		return h.execute(ctx, request)
	}
	first, second := gateway(), gateway()
	long := first.mustSubmit(1)
	first.Segments = 1 // which it keeps for itself
	first.watch(execute)
	eventually(t, "it runs", func() bool { return h.runs.Load() == 1 })
	if _, err := second.submitTexts(slices.Repeat([]string{"poison"}, 60)...); err != nil {
		t.Fatal(err)
	}
	second.watch(execute)
	if ended := first.ended(long.ID); ended.Done != 1 || beside.Load() > 0 {
		t.Errorf("after %d ends of the hot path, %d lines beside it: %+v", h.died(), beside.Load(), ended)
	}
}

// A line that waits to be run alone has nothing to do with it when its gateway ends meanwhile.
func TestAGatewayThatEndsWhileALineWaitsForItsTurnIsNoDeathOfIt(t *testing.T) {
	f := newFixture(t)
	batch := f.mustSubmit(1)
	jobs, err := f.Store.ClaimJobs(t.Context(), store.BatchQueue, "a test", 1, time.Minute)
	if err != nil || len(jobs) != 1 {
		t.Fatal(jobs, err)
	}
	job := jobs[0]
	job.Deaths = MaxDeaths - 1 // as if it had
	end, err := f.Turns.Beside(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	deaths := func() int {
		found, err := f.Store.FindHeldJob(t.Context(), job.ID)
		if err != nil {
			t.Fatal(err)
		}
		return found.Deaths
	}
	running, handled := make(chan struct{}), make(chan error, 1)
	w := &worker{f.Batches, func(ctx context.Context, request Request) Reply {
		if deaths() != MaxDeaths-1 {
			t.Errorf("it runs with %d deaths", deaths())
		}
		close(running)
		return good(ctx, request)
	}}
	go func() { handled <- w.handle(t.Context(), job) }()
	eventually(t, "it waits", func() bool { return deaths() == MaxDeaths-2 })
	end()
	<-running
	if err := <-handled; err != nil {
		t.Error(err)
	}
	if found, err := f.Find(t.Context(), "acme", batch.ID); err != nil || found.Done != 1 {
		t.Errorf("%+v, %v", found, err)
	}
}
