package jobs

import (
	"context"
	"sync"
	"time"

	"triptych.dev/gateway/internal/store"
)

// lookAgain is how often who waits looks, if nothing tells: another process may have ended the job.
const lookAgain = time.Second

// waiters are who waits for the ends of jobs: as many as its callers let wait.
type waiters struct {
	mu sync.Mutex
	of map[string]map[chan struct{}]struct{}
}

// wait returns a channel that is told of a job's end, until done is called.
func (w *waiters) wait(id string) (woken <-chan struct{}, done func()) {
	channel := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of == nil {
		w.of = map[string]map[chan struct{}]struct{}{}
	}
	if w.of[id] == nil {
		w.of[id] = map[chan struct{}]struct{}{}
	}
	w.of[id][channel] = struct{}{}
	return channel, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if delete(w.of[id], channel); len(w.of[id]) == 0 {
			delete(w.of, id)
		}
	}
}

func (w *waiters) wake(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for channel := range w.of[id] {
		select {
		case channel <- struct{}{}:
		default:
		}
	}
}

// Await returns a tenant's job once it has ended, or as it was last seen when ctx ends, or until is closed.
func (j *Jobs) Await(ctx context.Context, tenant, id string, until <-chan struct{}) (store.AsyncJob, error) {
	woken, done := j.waiters.wait(id)
	defer done()
	ticker := time.NewTicker(j.lookAgain)
	defer ticker.Stop()
	var seen store.AsyncJob
	for {
		job, err := j.Find(ctx, tenant, id)
		switch {
		case err != nil && ctx.Err() != nil && seen.ID != "":
			return seen, nil
		case err != nil, !job.Ended.IsZero():
			return job, err
		}
		seen = job
		select {
		case <-ctx.Done():
			return seen, nil
		case <-until:
			return seen, nil
		case <-woken:
		case <-ticker.C:
		}
	}
}
