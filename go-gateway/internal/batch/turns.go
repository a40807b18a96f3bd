package batch

import (
	"context"
	"errors"
	"math"
	"time"

	"golang.org/x/sync/semaphore"

	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/workpool"
)

const (
	everybody = math.MaxInt64
	// closedFor is how long at first a suspect keeps others from beginning, while it waits for those that run.
	closedFor = 10 * time.Second
	// announced is how long a suspect waits for others to say that they are some: a few transactions.
	announced = 250 * time.Millisecond
)

// Turns say when what batches and jobs run in this gateway may begin: beside others, or alone if it is suspected to end processes.
type Turns struct {
	places, suspects *semaphore.Weighted // first come, first served
}

// NewTurns returns those of a gateway.
func NewTurns() *Turns {
	return &Turns{semaphore.NewWeighted(everybody), semaphore.NewWeighted(1)}
}

// Beside waits for the turn of what may run beside others. It is over with end.
func (t *Turns) Beside(ctx context.Context) (end func(), err error) {
	if t.places.Acquire(ctx, 1) != nil {
		return nil, context.Cause(ctx)
	}
	return func() { t.places.Release(1) }, nil
}

// Announce says that a job is a suspect, which its worker has just claimed: until it has its turn, the end of this gateway is for the sake
// of another one, and no death of this job. Others that were claimed with it have the time to say so too, before one of them begins.
func (t *Turns) Announce(ctx context.Context, kept *store.Store, job store.Job) error {
	if err := kept.SetDeaths(ctx, job, job.Deaths-1); err != nil { // one in advance
		return err
	}
	if !workpool.Sleep(ctx, announced) {
		return errors.Join(context.Cause(ctx), kept.SetDeaths(context.WithoutCancel(ctx), job, job.Deaths))
	}
	return nil
}

// Alone waits for the turn of a job that has been announced. From then on until end the end of this gateway is a death of it.
func (t *Turns) Alone(ctx context.Context, kept *store.Store, job store.Job) (end func(), err error) {
	if err := t.wait(ctx); err != nil {
		return nil, errors.Join(err, kept.SetDeaths(context.WithoutCancel(ctx), job, job.Deaths))
	}
	over := func() { t.places.Release(everybody); t.suspects.Release(1) }
	if err := kept.SetDeaths(ctx, job, job.Deaths); err != nil {
		over()
		return nil, err
	}
	return func() {
		// Until its result is written others have their turns. If this fails, the store does, and so will that.
		_ = kept.SetDeaths(context.WithoutCancel(ctx), job, job.Deaths-1)
		over()
	}, nil
}

// wait waits until nothing runs, and keeps others from beginning so that this comes. Where that takes long, it lets them begin for
// twice as long as it has kept them, and then keeps them for as long: they have about half of the time at least.
func (t *Turns) wait(ctx context.Context) error {
	if t.suspects.Acquire(ctx, 1) != nil {
		return context.Cause(ctx)
	}
	for closed := closedFor; ; {
		limited, cancel := context.WithTimeout(ctx, closed)
		err := t.places.Acquire(limited, everybody)
		cancel()
		if err == nil {
			return nil
		}
		if closed *= 2; !workpool.Sleep(ctx, closed) {
			t.suspects.Release(1)
			return context.Cause(ctx)
		}
	}
}
