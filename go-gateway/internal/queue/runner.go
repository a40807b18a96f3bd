package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"triptych.dev/gateway/internal/periodic"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/tracing"
	"triptych.dev/gateway/internal/workpool"
)

const (
	countEvery = 15 * time.Second
	pruneEvery = time.Minute
	// idlePoll is how rarely a queue is looked at that had nothing to do for as long: what is new wakes it.
	idlePoll = time.Second
	// maxPoll is how rarely a store is asked that answers with errors.
	maxPoll = 2 * time.Second
	// writeAgain is the pause before an outcome is written again that could not be.
	writeAgain = 100 * time.Millisecond
)

// claim is a job that this process has.
type claim struct {
	job    store.Job
	ctx    context.Context // its handler's
	cancel context.CancelCauseFunc
	took   time.Duration // of its handler, once that has returned

	traced context.Context // ctx with its span, once a worker has it
	span   *tracing.Span
}

type runner struct {
	Options
	working context.Context // never ends: an outcome is written also when the process stops
	wake    chan struct{}   // there may be new jobs
	room    chan struct{}   // there may be a free worker
	holding bool            // no job is begun, as was said

	asking, renewing periodic.Trouble // of the store

	mu   sync.Mutex
	held map[*claim]struct{} // at most as many as there are workers
}

// claims is the source of the pool: it claims jobs as there are workers for them.
func (r *runner) claims(ctx context.Context, yield func(*claim) bool) error {
	var swept time.Time
	poll := r.Poll
	for ctx.Err() == nil {
		room := r.free()
		if room == 0 {
			wait(ctx, r.room, nil)
			continue
		}
		if r.isHeld(ctx) {
			continue
		}
		var sweepErr error
		if time.Since(swept) >= r.Poll {
			_, sweepErr = r.Store.SweepJobs(ctx)
			swept = time.Now()
		}
		jobs, err := r.claimJobs(room)
		for _, job := range jobs {
			if !yield(job) {
				return nil // those that no worker took are given back in the end
			}
		}
		err = errors.Join(sweepErr, err)
		if r.asking.Ended(err) {
			r.Log.Info("the queue goes on")
		}
		switch {
		case err != nil && ctx.Err() == nil:
			if r.asking.Began(err) {
				r.Log.Error("the store does not answer, or cannot be written; the queue waits", "error", err)
			}
			poll = min(2*poll, max(maxPoll, r.Poll))
		case r.free() == r.Workers:
			poll = min(2*poll, max(idlePoll, r.Poll))
		default:
			poll = r.Poll
		}
		if len(jobs) < room {
			timer := time.NewTimer(poll)
			wait(ctx, r.wake, timer.C)
			timer.Stop()
		}
	}
	return nil
}

// isHeld reports whether no job is to be begun, and then waits for a moment.
func (r *runner) isHeld(ctx context.Context) bool {
	if r.Hold == nil {
		return false
	}
	cause := r.Hold()
	if held := cause != nil; held != r.holding {
		r.holding = held
		if held {
			r.Log.Warn("no job is begun", "cause", cause)
		} else {
			r.Log.Info("jobs are begun again")
		}
	}
	if cause == nil {
		return false
	}
	timer := time.NewTimer(r.Poll)
	defer timer.Stop()
	wait(ctx, nil, timer.C)
	return true
}

func wait(ctx context.Context, signal <-chan struct{}, timer <-chan time.Time) {
	select {
	case <-ctx.Done():
	case <-signal:
	case <-timer:
	}
}

func (r *runner) free() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Workers - len(r.held)
}

// claimJobs claims to the end even if the process stops meanwhile, so that no job is leased that nobody knows of.
func (r *runner) claimJobs(most int) (claims []*claim, err error) {
	ctx, cancel := context.WithTimeout(r.working, r.Lease)
	defer cancel()
	jobs, err := r.Store.ClaimJobs(ctx, r.Queue, r.Owner, most, r.Lease)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, job := range jobs {
		c := &claim{job: job}
		c.ctx, c.cancel = context.WithCancelCause(r.working)
		c.traced = c.ctx
		r.held[c] = struct{}{}
		claims = append(claims, c)
	}
	return claims, err
}

// handle is the work of the pool, which contains panics.
func (r *runner) handle(ctx context.Context, c *claim) (struct{}, error) {
	started := time.Now()
	defer func() { c.took = time.Since(started) }()
	c.traced, c.span = r.Tracer.Job(c.ctx, tracing.Job{
		Queue: r.Queue, Kind: c.job.Kind, ID: c.job.ID, Tenant: c.job.Tenant, Attempt: c.job.Attempt, Cause: c.job.Cause,
	})
	defer context.AfterFunc(ctx, func() { c.cancel(context.Cause(ctx)) })()
	if r.MaxDeaths > 0 && c.job.Deaths >= r.MaxDeaths {
		return struct{}{}, Permanent(fmt.Errorf("its workers died %d times; the last error: %q", c.job.Deaths, c.job.Error))
	}
	return struct{}{}, r.Handler(c.traced, c.job)
}

// settle is the sink of the pool: it writes down what became of a job.
func (r *runner) settle(result workpool.Result[*claim, struct{}]) error {
	c := result.Item
	outcome := r.outcome(c, result.Err)
	if result.Err != nil {
		r.Log.WarnContext(c.traced, "a job did not end well", "outcome", outcome, "job", c.job.ID, "kind", c.job.Kind, "tenant", c.job.Tenant,
			"attempt", c.job.Attempt, "errors", c.job.Errors, "deaths", c.job.Deaths, "error", result.Err)
	}
	if r.Observer != nil {
		r.Observer.Ended(r.Queue, outcome, c.took)
	}
	c.span.EndJob(outcome, outcome == Retried || outcome == Buried || outcome == Lost)
	c.cancel(nil)
	r.mu.Lock()
	delete(r.held, c)
	r.mu.Unlock()
	signal(r.room)
	return nil
}

func (r *runner) outcome(c *claim, err error) string {
	if err == nil {
		return Done
	}
	if written, is := errors.AsType[settled](err); is {
		return written.outcome
	}
	cause := context.Cause(c.ctx)
	later, isLater := errors.AsType[postponed](err)
	_, isPermanent := errors.AsType[permanent](err)
	_, isDeath := errors.AsType[died](err)
	switch {
	case errors.Is(err, store.ErrLost), errors.Is(cause, store.ErrLost):
		return Lost
	case isPermanent, !isLater && !isDeath && cause == nil && c.job.Errors+1 >= r.MaxErrors:
		return r.write(Buried, func(ctx context.Context) error { return r.Store.BuryJob(ctx, c.job, err.Error()) })
	case isLater:
		return r.write(Waits, func(ctx context.Context) error { return r.Store.RetryJob(ctx, c.job, later.after, err.Error()) })
	case cause != nil && !isDeath: // it was cancelled, which is no fault of the job
		return r.write(Released, func(ctx context.Context) error { return r.Store.ReleaseJobs(ctx, []store.Job{c.job}) })
	default:
		again, before := c.job, c.job.Errors
		if isDeath {
			before = c.job.Deaths
			again.Deaths++
		} else {
			again.Errors++
		}
		return r.write(Retried, func(ctx context.Context) error { return r.Store.RetryJob(ctx, again, r.pause(before), err.Error()) })
	}
}

// write writes an outcome down. If that fails for too long, the lease runs out.
func (r *runner) write(outcome string, change func(context.Context) error) string {
	err := Persist(r.working, change)
	if err != nil && !errors.Is(err, store.ErrLost) {
		r.Log.Error("what became of a job could not be written down", "outcome", outcome, "error", err)
	}
	if err != nil {
		return Lost
	}
	return outcome
}

// renew keeps the leases of all jobs that are worked on, and cancels the handlers of those that were lost. While the store
// does not answer they go on: whether somebody else has the job shows in the end.
func (r *runner) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.Lease)
	defer cancel()
	claims, jobs := r.alive()
	if len(jobs) == 0 {
		return
	}
	lost, err := r.Store.RenewJobs(ctx, jobs, r.Lease)
	if ctx.Err() == nil && r.renewing.Began(err) {
		r.Log.Error("leases could not be renewed; this is tried again", "error", err)
	}
	for _, c := range claims {
		if slices.Contains(lost, c.job.ID) {
			c.cancel(store.ErrLost) // one that has just ended does not mind
		}
	}
}

// alive returns what was claimed and not told to end.
func (r *runner) alive() (claims []*claim, jobs []store.Job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.held {
		if c.ctx.Err() == nil {
			claims, jobs = append(claims, c), append(jobs, c.job)
		}
	}
	return claims, jobs
}

// releaseHeld gives jobs back that were claimed and reached no worker.
func (r *runner) releaseHeld() {
	claims, jobs := r.alive()
	if len(jobs) > 0 {
		r.write(Released, func(ctx context.Context) error { return r.Store.ReleaseJobs(ctx, jobs) })
	}
	for _, c := range claims {
		c.cancel(nil)
	}
}

func (r *runner) count(ctx context.Context) {
	if r.Observer == nil {
		return
	}
	if states, err := r.Store.CountJobs(ctx, r.Queue); err == nil {
		r.Observer.Counted(r.Queue, states)
	}
}

// prune removes what ended long ago, in small steps.
func (r *runner) prune(ctx context.Context) {
	for state, age := range map[string]time.Duration{store.JobDone: r.KeepDone, store.JobDead: r.KeepDead} {
		// What cannot be removed now is a minute later.
		_ = periodic.Steps(ctx, func(ctx context.Context) (int, error) { return r.Store.PruneJobs(ctx, state, age) })
	}
}
