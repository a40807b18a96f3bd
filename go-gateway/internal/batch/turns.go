package batch

import (
	"cmp"
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
	// looksSoon and looksLate are how soon a gateway looks whether a suspect waits in any of them: the longer there was none, the later.
	looksSoon, looksLate = 20 * time.Millisecond, time.Second
)

// Turns say when what batches and jobs run may begin: beside others, or alone if it is suspected to end processes. Gateways of one
// database have them together, as far as each watches.
type Turns struct {
	places, suspects *semaphore.Weighted // first come, first served
	store            *store.Store        // of several gateways; nil: this one has it for itself
}

// NewTurns returns those of a gateway.
func NewTurns(kept *store.Store) *Turns {
	t := &Turns{places: semaphore.NewWeighted(everybody), suspects: semaphore.NewWeighted(1)}
	if kept != nil && kept.IsShared() {
		t.store = kept
	}
	return t
}

// Watch has nothing begin here while a suspect runs in any gateway, until ctx ends. It has to run where there may be others.
func (t *Turns) Watch(ctx context.Context) {
	if t.store == nil {
		return
	}
	closed := t.places.TryAcquire(everybody) // until it is known that nobody runs alone
	open := func() {
		if closed {
			t.places.Release(everybody)
		}
		closed = false
	}
	defer open()
	for ctx.Err() == nil {
		err := t.store.RunBeside(ctx, func(wanted func() (bool, error)) (err error) {
			open()
			for pause := looksSoon; !closed && err == nil; pause = min(2*pause, looksLate) {
				if !workpool.Sleep(ctx, pause) {
					return context.Cause(ctx)
				}
				var is bool
				if is, err = wanted(); is {
					closed, err = t.closeWhile(ctx, wanted)
				}
			}
			return err
		})
		if err != nil {
			open()
			workpool.Sleep(ctx, looksLate)
		}
	}
}

// closeWhile has nothing begin, and waits for what runs as long as that is wanted. It reports whether nothing runs.
func (t *Turns) closeWhile(ctx context.Context, wanted func() (bool, error)) (closed bool, err error) {
	waiting, stop := context.WithCancel(ctx)
	acquired := make(chan error, 1)
	go func() { acquired <- t.places.Acquire(waiting, everybody) }()
	is := true
	for is && err == nil {
		select {
		case failed := <-acquired:
			stop()
			return failed == nil, failed
		case <-time.After(looksLate):
			is, err = wanted()
		}
	}
	stop()
	if <-acquired == nil {
		t.places.Release(everybody)
	}
	return false, err
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
	over, err := t.wait(ctx)
	if err != nil {
		return nil, errors.Join(err, kept.SetDeaths(context.WithoutCancel(ctx), job, job.Deaths))
	}
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
func (t *Turns) wait(ctx context.Context) (end func(), err error) {
	if t.suspects.Acquire(ctx, 1) != nil {
		return nil, context.Cause(ctx)
	}
	for closed := closedFor; ; {
		end, err := t.close(ctx, closed)
		if err == nil {
			return func() { end(); t.suspects.Release(1) }, nil
		}
		if closed *= 2; !errors.Is(err, store.ErrBusy) || !workpool.Sleep(ctx, closed) {
			t.suspects.Release(1)
			return nil, cmp.Or(context.Cause(ctx), err)
		}
	}
}

// close waits until nothing runs, or returns store.ErrBusy. Where there are other gateways, each of them, and this one, watches.
func (t *Turns) close(ctx context.Context, patience time.Duration) (end func(), err error) {
	if t.store != nil {
		return t.store.RunAlone(ctx, patience)
	}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if t.places.Acquire(limited, everybody) != nil {
		return nil, store.ErrBusy
	}
	return func() { t.places.Release(everybody) }, nil
}
