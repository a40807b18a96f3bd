// Package jobs runs single requests later: each is kept, run as a line of a batch is, and its reply kept for a time.
//
// A job is a job of the lease queue with a row of its own. What came of it is written in the transaction that ends it: so it is
// run at least once, and has one result. docs/jobs.md tells what is durable when.
//
// How a request is served is for whoever calls Watch; the package must not depend on HTTP.
package jobs

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"triptych.dev/gateway/internal/batch"
	"triptych.dev/gateway/internal/charge"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/periodic"
	"triptych.dev/gateway/internal/queue"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/tracing"
)

const (
	watchInterval = time.Second
	watchAtOnce   = 100
)

// Options are what jobs need.
type Options struct {
	Store *store.Store
	Files *files.Files
	// PlanOf returns a tenant's plan as it is now, by what its plan was when it created a job.
	PlanOf func(tenant, was string) (identity.Plan, bool)
	// Charges has each job charged once.
	Charges *charge.Book
	// Turns keep others from what is run alone; batches have the same ones.
	Turns *batch.Turns
	// Workers are how many jobs run at once.
	Workers int
	// MaxOpen is how many jobs of a tenant may not have ended.
	MaxOpen int
	// TextsOf reads the texts of a request for moderation. Its errors are *fault.Fault.
	TextsOf func(body []byte) ([]string, error)
	// MaxReviews is how many texts of a tenant may wait for people, or come to that.
	MaxReviews int
	// MaxReviewBytes is how much the texts come to of jobs that ask people.
	MaxReviewBytes int64
	// ReviewKept is how long a text waits for people at most.
	ReviewKept time.Duration
	// Window is how long a job may wait, and Kept for how long it can be looked at after its end where its plan does not say.
	Window, Kept time.Duration
	// Drain is how long jobs may go on once Watch is to end.
	Drain    time.Duration
	Now      func() time.Time
	Observer queue.Observer // may be nil
	// Waiting is told how many texts of all gateways wait for people, and since when the oldest one does; zero: there is none. May be nil.
	Waiting func(reviews int, oldest time.Time)
	Tracer  *tracing.Tracer // may be nil
	Logger  *slog.Logger
}

// Jobs are all tenants'. It is safe for concurrent use.
type Jobs struct {
	Options
	waiters         waiters
	watching        periodic.Trouble // of watchTime
	watchingReviews periodic.Trouble
	lookAgain       time.Duration
	lease           time.Duration

	mu      sync.Mutex
	running map[string]context.CancelCauseFunc // at most as many as there are workers
}

// New returns the jobs of a store. They are run while Watch does.
func New(options Options) *Jobs {
	return &Jobs{Options: options, lookAgain: lookAgain, lease: queue.DefaultLease, running: map[string]context.CancelCauseFunc{}}
}

// Find returns a tenant's job.
func (j *Jobs) Find(ctx context.Context, tenant, id string) (store.AsyncJob, error) {
	job, err := j.Store.FindAsyncJob(ctx, tenant, id, j.Now())
	return job, explain(err, id)
}

// Reply returns the body of what a job was replied; nil where it has no reply.
func (j *Jobs) Reply(job *store.AsyncJob) ([]byte, error) {
	if job.Result.Body == "" {
		return nil, nil
	}
	body, err := j.Files.Read(job.Result.Body)
	if err != nil {
		return nil, fault.InternalError(err)
	}
	return body, nil
}

// Page returns a tenant's jobs after one, newest first, and whether more follow.
func (j *Jobs) Page(ctx context.Context, tenant, after string, most int) (list []store.AsyncJob, more bool, err error) {
	list, more, err = store.PageOf(most, func(most int) ([]store.AsyncJob, error) {
		return j.Store.AsyncJobsPage(ctx, tenant, after, most, j.Now())
	})
	return list, more, explain(err, after)
}

// Cancel ends a tenant's job. One that runs is stopped: here at once, in another gateway when that renews its lease.
func (j *Jobs) Cancel(ctx context.Context, tenant, id string) (store.AsyncJob, error) {
	job, err := j.Find(ctx, tenant, id)
	if err != nil {
		return store.AsyncJob{}, err
	}
	now := j.Now()
	job, err = j.Store.CancelAsyncJob(ctx, tenant, id, now, j.forgetAt(now, &job))
	if errors.Is(err, store.ErrEnded) {
		return store.AsyncJob{}, fault.New(fault.JobEnded, "The job is %s already, and can no longer be cancelled.", job.State)
	}
	if err == nil {
		j.interrupt(id)
		j.waiters.wake(id)
	}
	return job, explain(err, id)
}

// NotFound says that a tenant has no job of an id.
func NotFound(id string) error {
	return fault.InField(fault.JobNotFound, "job_id", "There is no job %.100q; GET /v1/jobs lists them.", id)
}

func explain(err error, id string) error { return files.Explain(err, NotFound(id)) }

// Watch runs jobs until ctx ends.
func (j *Jobs) Watch(ctx context.Context, execute batch.Execute) {
	var beside sync.WaitGroup
	beside.Go(func() { periodic.AtOnceAndEvery(ctx, watchInterval, j.watchTime) })
	beside.Go(func() { periodic.AtOnceAndEvery(ctx, reviewInterval, j.watchReviews) })
	beside.Go(func() { j.Store.WatchEnded(ctx, j.waiters.wake) })
	w := &worker{j, execute}
	err := queue.Run(ctx, queue.Options{
		Store: j.Store, Queue: store.AsyncQueue, Workers: j.Workers, Handler: w.handle, Lease: j.lease, Drain: j.Drain, Observer: j.Observer, Tracer: j.Tracer, Log: j.Logger,
		// Nothing buries a job of the queue that is still open here: the handler does both.
		MaxErrors: 1 << 30, MaxDeaths: -1,
		Hold: j.Files.CheckRoom, // replies are kept on the disk
	})
	if err != nil {
		j.Logger.Error("jobs do not run", "error", err)
	}
	beside.Wait()
}

// forgetAt is until when a job that ends now can be looked at, by its tenant's plan of now.
func (j *Jobs) forgetAt(now time.Time, job *store.AsyncJob) time.Time {
	plan, _ := j.PlanOf(job.Tenant, job.Plan) // one that is gone keeps nothing short
	return now.Add(j.kept(plan))
}

// kept is for how long a plan has something looked at after its end.
func (j *Jobs) kept(plan identity.Plan) time.Duration { return cmp.Or(plan.Retention.Jobs, j.Kept) }

// watchTime ends jobs that were not run in their time, and forgets those that ended long ago.
func (j *Jobs) watchTime(ctx context.Context) {
	now := j.Now()
	forgetAt := func(job *store.AsyncJob) time.Time { return j.forgetAt(now, job) }
	expired, err := j.Store.ExpireAsyncJobs(ctx, now, forgetAt, watchAtOnce)
	for _, id := range expired {
		j.waiters.wake(id)
	}
	if err == nil {
		err = periodic.Steps(ctx, func(ctx context.Context) (int, error) { return j.Store.ForgetAsyncJobs(ctx, now, watchAtOnce) })
	}
	if ctx.Err() == nil && j.watching.Began(err) {
		j.Logger.Warn("jobs whose time is over could not be ended or forgotten; this is tried again", "cause", err)
	}
}
