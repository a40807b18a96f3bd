package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/testkit"
	"triptych.dev/gateway/internal/workpool"
)

// takes is a handler that takes a time, and heeds its context.
func takes(d time.Duration) Handler {
	return func(ctx context.Context, _ store.Job) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// finish makes a handler whose jobs end when it returns nil.
func finish(s interface {
	FinishJob(ctx context.Context, job store.Job) error
}, handler Handler) Handler {
	return func(ctx context.Context, job store.Job) error {
		if err := handler(ctx, job); err != nil {
			return err
		}
		return Persist(ctx, func(ctx context.Context) error { return s.FinishJob(ctx, job) })
	}
}

func TestOptionsAreChecked(t *testing.T) {
	handler := takes(0)
	for _, options := range []Options{
		{}, {Store: newFake(), Queue: "q", Workers: 1}, {Store: newFake(), Queue: "q", Handler: handler},
		{Store: newFake(), Workers: 1, Handler: handler}, {Queue: "q", Workers: 1, Handler: handler},
	} {
		if err := Run(t.Context(), options); err == nil {
			t.Errorf("%+v: accepted", options)
		}
	}
}

func TestJobsAreClaimedAsWorkersAreFree(t *testing.T) {
	f := newFake("a", "b", "c", "d", "e")
	inTestTime(t, Options{Store: f, Handler: finish(f, takes(time.Second))}, func(t *testing.T, f *fake, _ func()) {
		pass(2500 * time.Millisecond)
		expectState(t, f, "d", store.JobDone)
		expectState(t, f, "e", store.JobLeased)
		pass(time.Second)
		expectState(t, f, "e", store.JobDone)
		if f.most != 2 {
			t.Errorf("%d were leased at once by 2 workers", f.most)
		}
	})
}

func TestANewJobWakesTheQueue(t *testing.T) {
	f := newFake()
	inTestTime(t, Options{Store: f, Poll: time.Hour, Handler: finish(f, takes(0))}, func(t *testing.T, f *fake, _ func()) {
		f.add("a")
		f.wake()
		synctest.Wait()
		expectState(t, f, "a", store.JobDone)
	})
}

func TestTheQueueIsLookedAtWithoutBeingWoken(t *testing.T) {
	f := newFake()
	inTestTime(t, Options{Store: f, Handler: finish(f, takes(0))}, func(t *testing.T, f *fake, _ func()) {
		for _, rested := range []time.Duration{0, time.Minute} {
			pass(rested)
			id := rested.String()
			f.add(id)
			pass(max(min(rested, idlePoll), 2*DefaultPoll))
			expectState(t, f, id, store.JobDone)
		}
	})
}

func TestAnIdleQueueIsLookedAtRarelyAndABusyOneOften(t *testing.T) {
	f := newFake()
	inTestTime(t, Options{Store: f, Handler: finish(f, takes(time.Minute))}, func(t *testing.T, f *fake, _ func()) {
		looks := func() int {
			before := f.swept()
			pass(30 * time.Second)
			return f.swept() - before
		}
		looks()
		if idle := looks(); idle < 29 || idle > 31 {
			t.Errorf("it was looked at %d times in 30 s of rest", idle)
		}
		f.add("a")
		if busy := looks(); busy < 5*29 {
			t.Errorf("it was looked at %d times while a job ran for 30 s", busy)
		}
	})
}

func TestLeasesAreRenewedWhileAHandlerWorks(t *testing.T) {
	f := newFake("a")
	inTestTime(t, Options{Store: f, Handler: finish(f, takes(time.Minute))}, func(t *testing.T, f *fake, _ func()) {
		pass(time.Minute + time.Millisecond)
		expectState(t, f, "a", store.JobDone)
		if job := f.find("a"); job.Attempt != 1 || f.renewals < 17 {
			t.Errorf("got %+v after %d renewals", job, f.renewals)
		}
	})
}

func TestALostLeaseCancelsItsHandler(t *testing.T) {
	f, causes := newFake("a"), make(chan error, 1)
	handler := func(ctx context.Context, job store.Job) error {
		if job.Attempt > 2 {
			return f.FinishJob(ctx, job)
		}
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return context.Cause(ctx)
	}
	inTestTime(t, Options{Store: f, Handler: handler}, func(t *testing.T, f *fake, _ func()) {
		f.change("a", func(job *store.Job) { job.Attempt++ }) // another has claimed it
		pass(DefaultLease / 2)
		if cause := <-causes; !errors.Is(cause, store.ErrLost) {
			t.Errorf("the cause is %v", cause)
		}
		if job := f.find("a"); job.State != store.JobLeased || job.Attempt != 2 || job.Errors != 0 {
			t.Errorf("the other's job became %+v", job)
		}
		pass(DefaultLease) // which dies
		if job := f.find("a"); job.State != store.JobDone || job.Deaths != 1 {
			t.Errorf("got %+v", job)
		}
	})
}

func TestAPanicIsAnErrorOfItsJob(t *testing.T) {
	for name, fail := range map[string]func(){"panic": func() { panic("at the disco") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			f := newFake("a", "b")
			handler := finish(f, func(_ context.Context, job store.Job) error {
				if job.ID == "a" {
					fail()
				}
				return nil
			})
			inTestTime(t, Options{Store: f, Workers: 1, Handler: handler}, func(t *testing.T, f *fake, _ func()) {
				expectState(t, f, "b", store.JobDone)
				if job := f.find("a"); job.State != store.JobLater || job.Errors != 1 || (name == "panic" && !strings.Contains(job.Error, "at the disco")) {
					t.Errorf("got %+v", job)
				}
			})
		})
	}
}

func TestErrorsAreRetriedAndBuriedInTheEnd(t *testing.T) {
	f := newFake("a")
	var mu sync.Mutex
	var at []time.Time
	handler := func(context.Context, store.Job) error {
		mu.Lock()
		defer mu.Unlock()
		at = append(at, time.Now())
		return errTest
	}
	inTestTime(t, Options{Store: f, Handler: handler}, func(t *testing.T, f *fake, _ func()) {
		pass(time.Minute)
		if job := f.find("a"); job.State != store.JobDead || job.Error != errTest.Error() || len(at) != DefaultMaxErrors {
			t.Errorf("got %+v after %d tries", job, len(at))
		}
		for i := range at[1:] { // the pause is doubled, half of it is random, and a look that comes later the longer nothing was there
			least := DefaultRetryBase << i / 2
			if pause := at[i+1].Sub(at[i]); pause < least || pause > 2*least+idlePoll {
				t.Errorf("after error %d a pause of %v, not from %v on", i+1, pause, least)
			}
		}
	})
}

func TestPausesAreBounded(t *testing.T) {
	options := Options{RetryBase: DefaultRetryBase, RetryMax: DefaultRetryMax}
	for _, errors := range []int{9, 10, 31, 32, 63, 64, 1 << 40} {
		if pause := options.pause(errors); pause < DefaultRetryMax/2 || pause > DefaultRetryMax {
			t.Errorf("after %d errors: %v", errors, pause)
		}
	}
}

func TestWhatAHandlerSaysOfItsError(t *testing.T) {
	f := newFake("postponed", "permanent")
	handler := func(_ context.Context, job store.Job) error {
		if job.ID == "postponed" {
			return fmt.Errorf("not now: %w", Postpone(errTest, time.Hour))
		}
		return fmt.Errorf("never: %w", Permanent(errTest))
	}
	inTestTime(t, Options{Store: f, Handler: handler, MaxErrors: 1}, func(t *testing.T, f *fake, _ func()) {
		expectState(t, f, "permanent", store.JobDead)
		job := f.find("postponed")
		if job.State != store.JobLater || job.Errors != 0 || time.Until(job.Due) != time.Hour {
			t.Errorf("got %+v", job)
		}
		pass(time.Hour + idlePoll)
		if job = f.find("postponed"); job.Attempt != 2 || job.State != store.JobLater || job.Errors != 0 {
			t.Errorf("after its time: %+v", job)
		}
	})
	if !errors.Is(Postpone(errTest, 0), errTest) || !errors.Is(Permanent(errTest), errTest) {
		t.Error("the cause is hidden")
	}
}

func TestJobsThatKillTheirWorkers(t *testing.T) {
	f := newFake("a", "b")
	f.change("a", func(job *store.Job) { job.Deaths = DefaultMaxDeaths })
	f.change("b", func(job *store.Job) { job.Deaths = DefaultMaxDeaths - 1 })
	inTestTime(t, Options{Store: f, Handler: finish(f, takes(0))}, func(t *testing.T, f *fake, _ func()) {
		expectState(t, f, "b", store.JobDone)
		if job := f.find("a"); job.State != store.JobDead || !strings.Contains(job.Error, "died 3 times") {
			t.Errorf("got %+v", job)
		}
	})
	f = newFake("a")
	f.change("a", func(job *store.Job) { job.Deaths = 7 })
	halves := finish(f, func(_ context.Context, job store.Job) error {
		if job.Deaths != 7 {
			t.Errorf("the handler is told of %d deaths", job.Deaths)
		}
		return nil
	})
	inTestTime(t, Options{Store: f, MaxDeaths: -1, Handler: halves}, func(t *testing.T, f *fake, _ func()) {
		expectState(t, f, "a", store.JobDone)
	})
}

func TestWhatMayHaveEndedAnotherProcessIsADeath(t *testing.T) {
	deadly := func(_ context.Context, job store.Job) error {
		if job.Deaths != job.Attempt-1 || job.Errors != 0 {
			t.Errorf("the handler is told of %d deaths and %d errors, %d times", job.Deaths, job.Errors, job.Attempt)
		}
		return Died(errTest)
	}
	inTestTime(t, Options{Store: newFake("a"), MaxErrors: 1, Handler: deadly}, func(t *testing.T, f *fake, _ func()) {
		if job := f.find("a"); job.State != store.JobLater || job.Deaths != 1 || job.Error != errTest.Error() {
			t.Errorf("after the first one: %+v", job)
		}
		pass(time.Minute)
		if job := f.find("a"); job.State != store.JobDead || job.Deaths != DefaultMaxDeaths || !strings.Contains(job.Error, "died 3 times") {
			t.Errorf("in the end: %+v", job)
		}
	})
	if !errors.Is(Died(errTest), errTest) {
		t.Error("the cause is hidden")
	}
}

func TestADrainGivesHandlersTimeAndThenGivesTheirJobsBack(t *testing.T) {
	f := newFake("long", "short", "waits")
	handler := finish(f, func(ctx context.Context, job store.Job) error {
		if job.ID == "short" {
			return takes(time.Second)(ctx, job)
		}
		err := takes(time.Hour)(ctx, job)
		if !errors.Is(context.Cause(ctx), workpool.ErrEnding) {
			t.Errorf("the cause is %v", context.Cause(ctx))
		}
		return err
	})
	inTestTime(t, Options{Store: f, Handler: handler, Drain: 20 * time.Second, MaxErrors: 1}, func(t *testing.T, f *fake, stop func()) {
		began := time.Now()
		stop()
		if took := time.Since(began); took != 20*time.Second {
			t.Errorf("it took %v", took)
		}
		expectState(t, f, "short", store.JobDone)
		if job := f.find("waits"); job.State != store.JobReady || job.Attempt != 0 {
			t.Errorf("claimed while it stops: %+v", job)
		}
		if job := f.find("long"); job.State != store.JobReady || job.Errors != 0 || job.Deaths != 0 {
			t.Errorf("got %+v", job)
		}
	})
}

// blocking is a store whose claims take so long that the queue is stopped meanwhile.
type blocking struct {
	*fake
	claimed, goOn chan struct{}
}

func (b *blocking) ClaimJobs(ctx context.Context, queue, owner string, most int, lease time.Duration) ([]store.Job, error) {
	jobs, err := b.fake.ClaimJobs(ctx, queue, owner, most, lease)
	close(b.claimed)
	<-b.goOn
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return jobs, err
}

func TestWhatIsClaimedWhileItStopsIsGivenBackOrDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &blocking{newFake("a", "b", "c"), make(chan struct{}), make(chan struct{})}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Run(ctx, Options{Store: b, Queue: "q", Workers: 3, Handler: finish(b, takes(0))}) }()
		<-b.claimed
		stop()
		synctest.Wait()
		close(b.goOn)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for id, job := range b.jobs {
			if job.State != store.JobReady && job.State != store.JobDone {
				t.Errorf("%s: %+v", id, job)
			}
		}
	})
}

func TestAShortFailureOfTheStoreCostsNoWork(t *testing.T) {
	f := newFake("good", "bad")
	handler := finish(f, func(ctx context.Context, job store.Job) error {
		if err := takes(time.Second)(ctx, job); err != nil || job.ID == "good" {
			return err
		}
		return errTest
	})
	inTestTime(t, Options{Store: f, Handler: handler, RetryBase: time.Hour, RetryMax: 2 * time.Hour}, func(t *testing.T, f *fake, _ func()) {
		f.fail(errors.New("away"))
		pass(5 * time.Second) // both end meanwhile
		expectState(t, f, "good", store.JobLeased)
		f.fail(nil)
		pass(time.Second)
		if job := f.find("good"); job.State != store.JobDone || job.Attempt != 1 {
			t.Errorf("got %+v", job)
		}
		if job := f.find("bad"); job.State != store.JobLater || job.Errors != 1 {
			t.Errorf("got %+v", job)
		}
	})
}

func TestAStoreThatFailsIsAskedLessOftenAndToldOfOnce(t *testing.T) {
	f := newFake("renewed")
	log := &testkit.Log{}
	handler := func(ctx context.Context, job store.Job) error {
		if job.ID == "renewed" {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		return finish(f, takes(0))(ctx, job)
	}
	inTestTime(t, Options{Store: f, Handler: handler, Log: slog.New(slog.NewTextHandler(log, nil))}, func(t *testing.T, f *fake, _ func()) {
		f.fail(errors.New("away"))
		pass(time.Minute)
		before := f.swept()
		pass(time.Minute)
		if asked := f.swept() - before; asked > 31 {
			t.Errorf("it was asked %d times in a minute", asked)
		}
		f.fail(nil)
		f.add("a")
		pass(maxPoll)
		expectState(t, f, "a", store.JobDone)
		for _, said := range []string{"the queue waits", "leases could not be renewed", "the queue goes on"} {
			if times := strings.Count(log.String(), said); times != 1 {
				t.Errorf("%q is in the log %d times:\n%s", said, times, log)
			}
		}
	})
}

// seen is an observer.
type seen struct {
	mu       sync.Mutex
	outcomes map[string]int
	states   map[string]int
}

func (s *seen) Counted(_ string, states map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states = states
}

func (s *seen) Ended(_, outcome string, _ time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outcomes[outcome]++
}

func TestWhatHappensIsObserved(t *testing.T) {
	f, s := newFake("done", "buried", "lost", "released", "retried", "waits"), &seen{outcomes: map[string]int{}}
	handler := finish(f, func(ctx context.Context, job store.Job) error {
		switch job.ID {
		case "buried":
			return Permanent(errTest)
		case "lost":
			return store.ErrLost
		case "retried":
			return errTest
		case "waits":
			return Postpone(errTest, time.Hour)
		case "released":
			return takes(time.Hour)(ctx, job)
		}
		return nil
	})
	inTestTime(t, Options{Store: f, Handler: handler, Observer: s, Workers: 8, MaxDeaths: -1, RetryBase: time.Hour, RetryMax: 2 * time.Hour},
		func(t *testing.T, f *fake, stop func()) {
			pass(time.Minute)
			s.states[store.JobLeased] += s.states[store.JobReady] // the one that is lost again and again may be counted in between
			delete(s.states, store.JobReady)
			if want := map[string]int{store.JobDone: 1, store.JobDead: 1, store.JobLeased: 2, store.JobLater: 2}; !maps.Equal(s.states, want) {
				t.Errorf("states %v, want %v", s.states, want)
			}
			if f.pruned[store.JobDone] != DefaultKeepDone || f.pruned[store.JobDead] != DefaultKeepDead {
				t.Errorf("pruned: %v", f.pruned)
			}
			stop()
			for _, outcome := range []string{Done, Buried, Released, Retried, Waits} {
				if s.outcomes[outcome] != 1 {
					t.Errorf("%s: %d times", outcome, s.outcomes[outcome])
				}
			}
			if s.outcomes[Lost] == 0 {
				t.Errorf("got %v", s.outcomes)
			}
		})
}
