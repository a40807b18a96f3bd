package batch

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/store"
)

// hotpath serves lines until it ends, for the sake of a line that has a poison or when it is told; and then again.
type hotpath struct {
	mu    sync.Mutex
	life  context.Context
	end   context.CancelFunc
	back  time.Time     // when it is there again
	away  time.Duration // for how long it is not
	slow  time.Duration // for how long a line runs that has no poison
	ends  int
	runs  atomic.Int64 // calls that run
	alone atomic.Int64 // ends while no other call ran
}

func newHotpath(away time.Duration) *hotpath {
	h := &hotpath{away: away}
	h.life, h.end = context.WithCancel(context.Background())
	return h
}

func (h *hotpath) kill() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.end()
	h.life, h.end = context.WithCancel(context.Background())
	h.back, h.ends = time.Now().Add(h.away), h.ends+1
}

// call is a life of the hot path; nil where it is not there.
func (h *hotpath) call() context.Context {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Now().Before(h.back) {
		return nil
	}
	return h.life
}

func (h *hotpath) died() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ends
}

// execute is what the gateway makes of calls to it.
func (h *hotpath) execute(ctx context.Context, request Request) Reply {
	h.runs.Add(1)
	defer h.runs.Add(-1)
	unavailable := func(cut bool) Reply {
		return Reply{Status: 503, NoRoom: true, Failure: &fault.Fault{Reason: fault.HotpathUnavailable, Message: "gone", CutOff: cut}}
	}
	life := h.call()
	if life == nil {
		return unavailable(false)
	}
	poison, work := bytes.Contains(request.Body, []byte("poison")), time.Millisecond
	if !poison {
		work = max(work, h.slow)
	}
	select {
	case <-life.Done():
		return unavailable(true)
	case <-ctx.Done():
		return Reply{Failure: &fault.Fault{Reason: fault.Cancelled}}
	case <-time.After(work):
	}
	if poison {
		if h.runs.Load() == 1 {
			h.alone.Add(1)
		}
		h.kill()
		return unavailable(true)
	}
	return good(ctx, request)
}

// Lines that end the hot path each time are given up, and nothing else is, whatever runs beside them.
func TestALineThatEndsTheHotPathIsGivenUp(t *testing.T) {
	t.Parallel() // it mostly waits
	f := newFixture(t)
	texts := make([]string, 600) // two segments
	texts[5], texts[7] = "poison", "poison"
	poisoned, err := f.submitTexts(texts...)
	if err != nil {
		t.Fatal(err)
	}
	beside := f.mustSubmit(600)
	h := newHotpath(100 * time.Millisecond)
	f.watch(h.execute)
	ended := f.endedWithin(poisoned.ID, 3*patience)
	_, errs := f.once(len(texts), ended)
	for i, want := range []string{"5", "7"} {
		if len(errs) != 2 || errs[i].CustomID != want || errs[i].Error == nil || errs[i].Error.Code != NotSurvived {
			t.Fatalf("%d lines failed: %+v", len(errs), errs[:min(len(errs), 5)])
		}
	}
	if beside = f.ended(beside.ID); beside.Failed != 0 || beside.Done != 600 {
		t.Errorf("beside it: %+v", beside)
	}
	// Each of them twice beside others, with the other one maybe, once where lines run one by one, and twice as a segment of its own.
	if deaths := h.died(); deaths > 2*(MaxDeaths+3) || h.alone.Load() < 2*MaxDeaths {
		t.Errorf("the hot path has ended %d times, %d of them with one line alone", deaths, h.alone.Load())
	}
}

// A line that ends its gateway each time is given up, and no other one.
func TestALineThatEndsItsGatewayIsGivenUp(t *testing.T) {
	everywhere(t, func(f *fixture, told task, _ *rand.Rand) {
		texts := slices.Repeat([]string{"x"}, 4)
		texts[2] = "poison"
		batch, err := f.submitTexts(texts...)
		if err != nil {
			f.Fatal(err)
		}
		ends := 0
		for ; batch.Ended.IsZero(); ends++ {
			running := start(f.T, told)
			eventually(f.T, "it ends, or its gateway does", func() bool {
				if batch, err = f.Find(f.Context(), "acme", batch.ID); err != nil {
					f.Fatal(err)
				}
				return !batch.Ended.IsZero() || strings.Contains(running.said.String(), "poisoned\n")
			})
			running.kill() // or wait until it has ended
		}
		_, errs := f.once(len(texts), batch)
		if len(errs) != 1 || errs[0].CustomID != "2" || errs[0].Error == nil || errs[0].Error.Code != NotSurvived {
			f.Errorf("%+v", errs)
		}
		// Its segment is halved twice at most, after three ends each, and then it is alone.
		if ends--; ends < MaxDeaths || ends > 3*MaxDeaths {
			f.Errorf("after %d ends", ends)
		}
	})
}

// A hot path that ends for other reasons costs no line.
func TestAHotPathThatEndsCostsNoLine(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	batch := f.mustSubmit(1500)
	h := newHotpath(20 * time.Millisecond)
	f.watch(h.execute)
	for range 20 {
		time.Sleep(100 * time.Millisecond)
		h.kill()
	}
	batch = f.endedWithin(batch.ID, 3*patience)
	if f.once(1500, batch); batch.Failed != 0 || batch.State != store.BatchCompleted {
		t.Errorf("%+v", batch)
	}
}

// What has a result is kept where there is no room for the next line for long.
func TestWhatIsDoneIsKeptWhenThereIsNoRoomForTheRest(t *testing.T) {
	f := newFixture(t)
	batch, err := f.submitTexts(append(slices.Repeat([]string{"x"}, 30), slices.Repeat([]string{"too much"}, 10)...)...)
	if err != nil {
		t.Fatal(err)
	}
	full := &fault.Fault{Reason: fault.RateLimited, Message: "tomorrow", RetryAfter: time.Hour}
	f.watch(func(ctx context.Context, request Request) Reply {
		if bytes.Contains(request.Body, []byte("too much")) {
			return Reply{Status: 429, NoRoom: true, Failure: full}
		}
		return good(ctx, request)
	})
	eventually(t, "lines are kept", func() bool {
		found, err := f.Find(t.Context(), "acme", batch.ID)
		return err == nil && found.Done == 30
	})
	page, err := f.Store.SegmentsPage(t.Context(), "acme", batch.ID, 0, 10)
	if err != nil || len(page) != 2 || page[0].State != store.SegmentDone || page[1].State != store.SegmentPending || page[1].Lines != 10 {
		t.Errorf("%+v, %v", page, err)
	}
}

// A line that ends the hot path does so no more often where it is the last one, or where its segment's time is over meanwhile.
func TestWhereALineStandsCostsNoEnds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	last := slices.Repeat([]string{"x"}, 64)
	last[63] = "poison"
	for name, slow := range map[string]time.Duration{"the last one": 0, "behind slow ones": 20 * time.Millisecond} {
		f.segmentTime = time.Minute
		if slow > 0 {
			f.segmentTime = slow / 2
		}
		batch, err := f.submitTexts(last...)
		if err != nil {
			t.Fatal(err)
		}
		h := newHotpath(0)
		h.slow = slow
		stop := f.watch(h.execute)
		batch = f.endedWithin(batch.ID, 3*patience)
		stop()
		if _, errs := f.once(len(last), batch); len(errs) != 1 || errs[0].CustomID != "63" || errs[0].Error == nil || errs[0].Error.Code != NotSurvived {
			t.Errorf("%s: %+v", name, errs)
		}
		charges, err := f.Store.TodaysCharges(t.Context(), "", 1000)
		charged := int64(0)
		for _, charge := range charges {
			if strings.HasPrefix(charge.ID, batch.ID) {
				charged += charge.Tokens
			}
		}
		if err != nil || charged != batch.Tokens.Input+batch.Tokens.Output || batch.Tokens.Input != 3*63 {
			t.Errorf("%s: %d tokens are charged of %+v, %v", name, charged, batch.Tokens, err)
		}
		// Twice beside others, once where lines run one by one, and twice as a segment of its own.
		if deaths := h.died(); deaths > MaxDeaths+2 {
			t.Errorf("%s: the hot path has ended %d times", name, deaths)
		}
	}
}

// A line that has no room hides no end of the hot path behind it, however often it is put off.
func TestAnEndBehindALineWithoutRoomCounts(t *testing.T) {
	f := newFixture(t)
	batch, err := f.submitTexts("too much", "poison")
	if err != nil {
		t.Fatal(err)
	}
	h := newHotpath(0)
	f.watch(func(ctx context.Context, request Request) Reply {
		if bytes.Contains(request.Body, []byte("poison")) {
			return h.execute(ctx, request)
		}
		for h.died() == 0 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		return Reply{Status: 429, NoRoom: true, Failure: &fault.Fault{Reason: fault.RateLimited, Message: "tomorrow", RetryAfter: time.Hour}}
	})
	var job store.HeldJob
	eventually(t, "it is put off", func() bool {
		job, err = f.Store.FindHeldJob(t.Context(), batch.ID+"/00000+2")
		return err == nil && (job.Deaths == MaxDeaths-1 || job.Errors > 0) && job.State == store.JobLater || job.Due.After(time.Now().Add(time.Minute))
	})
	if job.Deaths != h.died() || job.Deaths == 0 {
		t.Errorf("after %d ends: %+v", h.died(), job)
	}
}

// A suspect that there is no hot path for holds no claim, which the end of its gateway would count against it.
func TestASuspectDoesNotWaitForTheHotPathInItsWorker(t *testing.T) {
	f := newFixture(t)
	f.mustSubmit(1)
	jobs, err := f.Store.ClaimJobs(t.Context(), store.BatchQueue, "a test", 1, time.Minute)
	if err != nil || len(jobs) != 1 {
		t.Fatal(jobs, err)
	}
	h := newHotpath(time.Hour)
	h.kill()
	jobs[0].Deaths = 1 // as if it had
	began := time.Now()
	err = (&worker{f.Batches, h.execute}).handle(t.Context(), jobs[0])
	if refused, is := errors.AsType[noRoom](err); !is || refused.CutOff || time.Since(began) > time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}
