package app

import (
	"context"
	"errors"
	"slices"
)

// component is one part of the gateway. What it does not need is nil.
type component struct {
	// start returns once the part does its work, in the background. What ends that before its time is sent to failures,
	// at most once.
	start func(failures chan<- error) error
	// drain ends the work without losing any of it.
	drain func() error
	// stop ends the work at once, and returns when nothing of it is left.
	stop func() error
}

// run starts components in their order until ctx ends, drains them in the reverse one, and then stops them so. When one
// of them fails, or does not start, those that were started are stopped at once.
func run(ctx context.Context, components []component) (err error) {
	failures := make(chan error, len(components))
	for _, c := range components {
		if c.start != nil {
			if err := c.start(failures); err != nil {
				return err
			}
		}
		if c.stop != nil {
			defer func() { err = errors.Join(err, c.stop()) }()
		}
	}
	select {
	case err := <-failures:
		return err
	case <-ctx.Done():
	}
	for _, c := range slices.Backward(components) {
		if c.drain != nil {
			err = errors.Join(err, c.drain())
		}
	}
	return err
}

// background is a component that works until its context ends.
func background(work func(ctx context.Context)) component {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	return component{
		start: func(chan<- error) error {
			go func() {
				defer close(ended)
				work(ctx)
			}()
			return nil
		},
		stop: func() error {
			cancel()
			<-ended
			return nil
		},
	}
}
