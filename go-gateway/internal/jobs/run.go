package jobs

import (
	"bytes"
	"context"
	"errors"

	"triptych.dev/gateway/internal/batch"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/queue"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/store"
)

// maxAttempts is how often a job is tried that fails on our side, or is not done in time, before that is its result.
const maxAttempts = 5

// worker runs jobs.
type worker struct {
	*Jobs
	execute batch.Execute
}

// handle runs a job. What came of it is written with its end.
func (w *worker) handle(ctx context.Context, job store.Job) error {
	found, err := w.Store.FindAsyncJob(ctx, job.Tenant, job.ID, w.Now())
	if errors.Is(err, store.ErrNotFound) || (err == nil && !found.Ended.IsZero()) { // it was forgotten, or ended meanwhile
		return w.Store.FinishJob(ctx, job)
	}
	if err != nil {
		return err
	}
	if !w.Now().Before(found.Expires) {
		return w.finish(ctx, job, &found, store.AsyncResult{State: store.AsyncExpired})
	}
	if found.Alone > 0 && job.Deaths > found.Alone {
		why := batch.WhyNotSurvived(job.Deaths)
		return w.finish(ctx, job, &found, store.AsyncResult{State: store.AsyncFailed, ErrorCode: batch.NotSurvived, Error: why, Dead: why})
	}
	return w.run(ctx, job, &found)
}

// run serves a job's request, once.
func (w *worker) run(ctx context.Context, job store.Job, found *store.AsyncJob) error {
	end, err := w.turn(ctx, job)
	if err != nil {
		return err
	}
	defer end()
	ctx, ended := w.begin(ctx, job.ID)
	defer ended()
	if ctx.Err() != nil { // while it waited
		return context.Cause(ctx)
	}
	owner, err := batch.Owner(w.PlanOf, found.Tenant, found.Key, found.Plan, found.Scopes)
	if err != nil {
		return queue.Postpone(err, batch.PutOff(nil)) // the tenant may come back before the job expires
	}
	body, err := w.Files.Read(found.Body)
	if err != nil {
		return w.failed(ctx, job, found, err)
	}
	pending := w.Charges.Begin(job.ID, owner, quota.Batch)
	err = w.serve(ctx, job, found, batch.Request{Principal: owner, ID: job.ID, Endpoint: found.Endpoint, Body: body, Pending: pending})
	if err != nil {
		pending.Release() // where it was finished and that is not known, it is charged all the same
		return err
	}
	w.Charges.Done(pending)
	return nil
}

// turn waits until a job may begin: alone, if it is given up once its process ends again.
func (w *worker) turn(ctx context.Context, job store.Job) (end func(), err error) {
	if job.Deaths < batch.MaxDeaths-1 {
		return w.Turns.Beside(ctx)
	}
	if err := w.Turns.Announce(ctx, w.Store, job); err != nil {
		return nil, err
	}
	end, err = w.Turns.Alone(ctx, w.Store, job)
	if err == nil {
		if err = w.Store.BeginAlone(ctx, job, job.Tenant); err != nil {
			end()
		}
	}
	return end, err
}

// serve has a request served, and writes what came of it.
func (w *worker) serve(ctx context.Context, job store.Job, found *store.AsyncJob, request batch.Request) error {
	reply := w.execute(ctx, request)
	result := store.AsyncResult{State: store.AsyncCompleted, Status: reply.Status, Tokens: reply.Tokens}
	if failure := reply.Failure; failure != nil {
		ours := failure.Reason == fault.Internal || failure.Reason == fault.DeadlineExceeded
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case failure.CutOff:
			return queue.Died(failure)
		case reply.NoRoom:
			return queue.Postpone(failure, batch.PutOff(failure))
		case ours && job.Errors+1 < maxAttempts:
			return failure
		case ours:
			result.Dead = failure.Error()
		}
		result.State = store.AsyncFailed
	}
	ctx = context.WithoutCancel(ctx) // what is there is kept, also when the process ends
	if found.Thresholds != "" && reply.Failure == nil {
		var err error
		if result.Judged, err = w.judge(ctx, found, request.Body, reply.Body); errors.Is(err, errNotKept) {
			return queue.Postpone(err, batch.PutOff(nil))
		} else if err != nil {
			return w.failed(ctx, job, found, err)
		}
	}
	id, size, err := w.Files.Blobs.Put(ctx, bytes.NewReader(reply.Body), int64(len(reply.Body)))
	if err != nil {
		return queue.Postpone(err, batch.PutOff(nil)) // a full disk, maybe
	}
	result.Body, result.Bytes = id.String(), size
	return w.finish(ctx, job, found, result)
}

// failed is a job that could not be run for a reason of ours.
func (w *worker) failed(ctx context.Context, job store.Job, found *store.AsyncJob, err error) error {
	if job.Errors+1 < maxAttempts {
		return err
	}
	return w.finish(ctx, job, found, store.AsyncResult{
		State: store.AsyncFailed, ErrorCode: "internal_error", Error: "Something went wrong on our side; our log has the cause under the job's id.", Dead: err.Error(),
	})
}

// finish writes a result, again and again while the store fails for a short time.
func (w *worker) finish(ctx context.Context, job store.Job, found *store.AsyncJob, result store.AsyncResult) error {
	err := queue.Persist(ctx, func(ctx context.Context) error {
		now := w.Now()
		return w.Store.FinishAsyncJob(ctx, job, job.Tenant, result, now, w.forgetAt(now, found))
	})
	if err == nil {
		w.waiters.wake(job.ID)
	}
	return err
}

// begin makes a job one that Cancel stops.
func (j *Jobs) begin(ctx context.Context, id string) (running context.Context, ended func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.running[id] = cancel
	return ctx, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		delete(j.running, id)
		cancel(nil)
	}
}

// interrupt stops a job that runs here, and that is no longer its worker's.
func (j *Jobs) interrupt(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if cancel := j.running[id]; cancel != nil {
		cancel(store.ErrLost)
	}
}
