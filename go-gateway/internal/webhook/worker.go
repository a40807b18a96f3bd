package webhook

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"triptych.dev/gateway/internal/periodic"
	"triptych.dev/gateway/internal/queue"
	"triptych.dev/gateway/internal/store"
)

const (
	// maxRetryAfter bounds what a receiver may ask for.
	maxRetryAfter = time.Hour
	// kept is how long a delivery can be looked at, and replayed, after its end.
	kept = 30 * 24 * time.Hour

	watchInterval = 15 * time.Second
	pruneAtOnce   = 500
	gone          = 410 // a receiver that wants to hear no more
)

// Watch delivers until ctx ends.
func (w *Webhooks) Watch(ctx context.Context) {
	var beside sync.WaitGroup
	beside.Go(func() { periodic.AtOnceAndEvery(ctx, watchInterval, w.watchTime) })
	err := queue.Run(ctx, queue.Options{
		Store: sharing{w.Store, w.shares}, Queue: store.WebhookQueue, Workers: w.Workers, Handler: w.handle, Drain: w.Timeout, Observer: w.Observer, Tracer: w.Tracer, Log: w.Logger,
		MaxDeaths: -1, // each claim reaches the handler, which has its place to release
	})
	if err != nil {
		w.Logger.Error("webhooks are not delivered", "error", err)
	}
	beside.Wait()
}

// watchTime counts what waits, and forgets what ended long ago.
func (w *Webhooks) watchTime(ctx context.Context) {
	waiting, oldest, err := w.Store.PendingDeliveries(ctx)
	if err == nil && w.Observer != nil {
		w.Observer.Waiting(waiting, oldest)
	}
	if err == nil {
		before := w.Now().Add(-kept)
		err = periodic.Steps(ctx, func(ctx context.Context) (int, error) { return w.Store.PruneDeliveries(ctx, before, pruneAtOnce) })
	}
	if ctx.Err() == nil && w.watching.Began(err) {
		w.Logger.Warn("deliveries could not be counted, or forgotten; this is tried again", "cause", err)
	}
}

// handle makes one attempt of a delivery, and writes what came of it with the end, or the delay, of its job.
func (w *Webhooks) handle(ctx context.Context, job store.Job) error {
	try, err := w.try(ctx, job)
	w.shares.release(job.Tenant, job.Args)
	if errors.Is(err, store.ErrNotFound) {
		return queue.Persist(ctx, func(ctx context.Context) error { return w.Store.DropDelivery(ctx, job) })
	}
	if err != nil {
		return err
	}
	if err := queue.Persist(ctx, func(ctx context.Context) error { return w.Store.RecordTry(ctx, job, try) }); err != nil {
		return err
	}
	switch try.State {
	case store.DeliveryPending:
		return queue.Settled(queue.Retried, errors.New(try.Error))
	case store.DeliveryDead:
		return queue.Settled(queue.Buried, errors.New(try.Error))
	default:
		return nil
	}
}

func (w *Webhooks) try(ctx context.Context, job store.Job) (store.Try, error) {
	delivery, hook, err := w.Store.DeliveryOf(ctx, job)
	if err != nil {
		return store.Try{}, err
	}
	if !hook.Enabled {
		return store.Try{State: store.DeliveryDead, Error: "the webhook is disabled", At: w.Now()}, nil
	}
	got, err := w.sender.send(ctx, hook, delivery)
	if err != nil {
		return store.Try{}, err
	}
	if w.Observer != nil {
		w.Observer.Attempted(got.kind)
	}
	try := store.Try{Status: got.status, Error: got.message, Sent: true, At: w.Now()}
	switch {
	case got.kind == KindDelivered:
		try.State = store.DeliveryDelivered
	case got.status == gone:
		try.State, try.Gone = store.DeliveryDead, hook.URL
	case job.Errors >= len(w.Retries):
		try.State = store.DeliveryDead
	default:
		try.State = store.DeliveryPending
		try.Again = max(jittered(w.Retries[job.Errors]), min(got.retryAfter, maxRetryAfter))
	}
	return try, nil
}

// jittered is a pause, a quarter more or less, so that what failed together does not come together again.
func jittered(pause time.Duration) time.Duration {
	return pause*3/4 + rand.N(pause/2+1)
}
