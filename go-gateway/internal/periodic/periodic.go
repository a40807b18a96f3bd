// Package periodic repeats what has to be done from time to time. It must not depend on any other package.
package periodic

import (
	"context"
	"time"
)

// Every calls work after each pause, until ctx ends.
func Every(ctx context.Context, pause time.Duration, work func(context.Context)) {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			work(ctx)
		}
	}
}

// AtOnceAndEvery is Every that begins with work.
func AtOnceAndEvery(ctx context.Context, pause time.Duration, work func(context.Context)) {
	work(ctx)
	Every(ctx, pause, work)
}

// Steps calls step, which does a bounded part of some work and returns how much of it, until nothing is left of the work, a
// step fails, or ctx ends.
func Steps(ctx context.Context, step func(context.Context) (done int, err error)) error {
	for ctx.Err() == nil {
		if done, err := step(ctx); err != nil || done == 0 {
			return err
		}
	}
	return context.Cause(ctx)
}
