package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"triptych.dev/gateway/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a store of jobs in memory, by the clock of the test.
type fake struct {
	mu       sync.Mutex
	jobs     map[string]*store.Job
	wakes    []func()
	err      error // of every method
	renewals int
	sweeps   int
	most     int // that were leased at once
	pruned   map[string]time.Duration
}

var _ Store = (*fake)(nil)

func newFake(ids ...string) *fake {
	f := &fake{jobs: map[string]*store.Job{}, pruned: map[string]time.Duration{}}
	f.add(ids...)
	return f
}

func (f *fake) add(ids ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		f.jobs[id] = &store.Job{ID: id, State: store.JobReady}
	}
}

func (f *fake) wake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, wake := range f.wakes {
		wake()
	}
}

// change changes a job behind everybody's back.
func (f *fake) change(id string, change func(*store.Job)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f.jobs[id])
}

func (f *fake) find(id string) store.Job {
	f.mu.Lock()
	defer f.mu.Unlock()
	return *f.jobs[id]
}

func (f *fake) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fake) swept() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sweeps
}

// settle changes a job behind its fence.
func (f *fake) settle(job store.Job, change func(*store.Job)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	found := f.jobs[job.ID]
	if found.State != store.JobLeased || found.Attempt != job.Attempt {
		return store.ErrLost
	}
	change(found)
	return nil
}

func (f *fake) ClaimJobs(_ context.Context, _, _ string, most int, lease time.Duration) (claimed []store.Job, _ error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	leased := 0
	for _, id := range slices.Sorted(maps.Keys(f.jobs)) {
		job := f.jobs[id]
		if f.err == nil && job.State == store.JobReady && len(claimed) < most {
			job.State, job.Due = store.JobLeased, time.Now().Add(lease)
			job.Attempt++
			claimed = append(claimed, *job)
		}
		if job.State == store.JobLeased {
			leased++
		}
	}
	f.most = max(f.most, leased)
	return claimed, f.err
}

func (f *fake) RenewJobs(_ context.Context, jobs []store.Job, lease time.Duration) (lost []string, err error) {
	for _, job := range jobs {
		err = f.settle(job, func(job *store.Job) { job.Due = time.Now().Add(lease); f.renewals++ })
		if errors.Is(err, store.ErrLost) {
			lost, err = append(lost, job.ID), nil
		}
	}
	return lost, err
}

func (f *fake) FinishJob(_ context.Context, job store.Job) error {
	return f.settle(job, func(job *store.Job) { job.State = store.JobDone })
}

func (f *fake) RetryJob(_ context.Context, held store.Job, after time.Duration, cause string) error {
	return f.settle(held, func(job *store.Job) {
		job.State, job.Due, job.Error = store.JobLater, time.Now().Add(after), cause
		job.Errors, job.Deaths = held.Errors, held.Deaths
	})
}

func (f *fake) BuryJob(_ context.Context, job store.Job, cause string) error {
	return f.settle(job, func(job *store.Job) { job.State, job.Error = store.JobDead, cause })
}

func (f *fake) ReleaseJobs(_ context.Context, jobs []store.Job) (err error) {
	for _, job := range jobs {
		err = errors.Join(err, f.settle(job, func(job *store.Job) { job.State = store.JobReady }))
	}
	return err
}

func (f *fake) SweepJobs(context.Context) (swept int, _ error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sweeps++
	for _, job := range f.jobs {
		if (job.State == store.JobLater || job.State == store.JobLeased) && !job.Due.After(time.Now()) {
			if job.State == store.JobLeased {
				job.Deaths++
			}
			job.State = store.JobReady
			swept++
		}
	}
	return swept, f.err
}

func (f *fake) PruneJobs(_ context.Context, state string, age time.Duration) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pruned[state] = age
	return 0, f.err
}

func (f *fake) CountJobs(context.Context, string) (map[string]int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	counts := map[string]int{}
	for _, job := range f.jobs {
		counts[job.State]++
	}
	return counts, f.err
}

func (f *fake) WatchJobs(ctx context.Context, _ string, wake func()) {
	f.mu.Lock()
	f.wakes = append(f.wakes, wake)
	f.mu.Unlock()
	<-ctx.Done()
}

// inTestTime runs a test by a clock that jumps to the next thing that happens. stop ends the queue, and returns when it has.
func inTestTime(t *testing.T, options Options, test func(t *testing.T, f *fake, stop func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		options.Queue = "q"
		if options.Workers == 0 {
			options.Workers = 2
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Run(ctx, options) }()
		stop := sync.OnceFunc(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		defer stop()
		synctest.Wait()
		test(t, options.Store.(*fake), stop)
	})
}

// pass lets time pass.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func expectState(t *testing.T, f *fake, id, state string) {
	t.Helper()
	if job := f.find(id); job.State != state {
		t.Errorf("%s: got %+v, want it %s", id, job, state)
	}
}

var errTest = fmt.Errorf("went wrong")
