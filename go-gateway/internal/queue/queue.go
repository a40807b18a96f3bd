// Package queue runs the store's jobs: it claims as many as it has workers for, keeps their leases alive while handlers
// work, and settles what became of each. Several processes may run one queue; none of them is special.
//
// A job is handled at least once. What a handler writes in the transaction that finishes the job is written exactly once.
//
// The package knows no SQL, and nothing of what jobs are for.
package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"triptych.dev/gateway/internal/periodic"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/tracing"
	"triptych.dev/gateway/internal/workpool"
)

// Store is what the queue needs of package store.
type Store interface {
	ClaimJobs(ctx context.Context, queue, owner string, most int, lease time.Duration) ([]store.Job, error)
	RenewJobs(ctx context.Context, jobs []store.Job, lease time.Duration) (lost []string, err error)
	RetryJob(ctx context.Context, job store.Job, after time.Duration, cause string) error
	BuryJob(ctx context.Context, job store.Job, cause string) error
	ReleaseJobs(ctx context.Context, jobs []store.Job) error
	SweepJobs(ctx context.Context) (int, error)
	PruneJobs(ctx context.Context, state string, age time.Duration) (int, error)
	CountJobs(ctx context.Context, queue string) (map[string]int, error)
	WatchJobs(ctx context.Context, queue string, wake func())
}

// Handler does a job. Nil means that the job has ended, in the transaction that wrote its result. An error has the job
// retried, and buried in the end; see Postpone and Permanent.
//
// Its context ends with store.ErrLost as its cause when the job is no longer this process's, and with workpool.ErrEnding
// when the process stops and has no more time. A handler that goes on regardless does no harm, since its result is refused.
type Handler func(ctx context.Context, job store.Job) error

// Persist writes what a handler worked for, again and again while the store fails, so that a short failure costs no work.
// After the time of a lease it is given up.
func Persist(ctx context.Context, write func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, DefaultLease)
	defer cancel()
	for {
		err := write(ctx)
		if err == nil || errors.Is(err, store.ErrLost) {
			return err
		}
		timer := time.NewTimer(writeAgain)
		wait(ctx, nil, timer.C)
		timer.Stop()
		if ctx.Err() != nil {
			return err
		}
	}
}

type postponed struct {
	error
	after time.Duration
}

func (e postponed) Unwrap() error { return e.error }

// Postpone is the error of a job that cannot be done at present, through no fault of its own: it is tried again after a
// time, and nothing is counted against it.
func Postpone(err error, after time.Duration) error { return postponed{err, after} }

type died struct{ error }

func (e died) Unwrap() error { return e.error }

// Died is the error of a job that may have ended a process other than this one. It is counted as a death, as if its lease
// had run out.
func Died(err error) error { return died{err} }

type permanent struct{ error }

func (e permanent) Unwrap() error { return e.error }

// Permanent is the error of a job that would fail each time: it is buried at once.
func Permanent(err error) error { return permanent{err} }

type settled struct {
	error
	outcome string
}

func (e settled) Unwrap() error { return e.error }

// Settled is the error of a job of which the handler has itself written what became of it, with why.
func Settled(outcome string, err error) error { return settled{err, outcome} }

// What became of a claimed job.
const (
	Done     = "done"
	Retried  = "retried"  // after an error
	Waits    = "waits"    // was postponed
	Buried   = "buried"   // was given up
	Released = "released" // was given back when the process stopped
	Lost     = "lost"     // its lease ran out, or it was ended by somebody else
)

// Observer is told what happens, by several goroutines.
type Observer interface {
	// Counted tells how many jobs of a queue are in each state but done.
	Counted(queue string, states map[string]int)
	// Ended tells what became of a claimed job, and how long its handler took.
	Ended(queue, outcome string, took time.Duration)
}

// Options are how a queue is run. Store, Queue, Workers and Handler are needed.
type Options struct {
	Store   Store
	Queue   string
	Workers int // jobs at once
	Handler Handler
	// Hold says why no job is to be begun now; nil, or a nil error: nothing keeps them. Those that run go on.
	Hold func() error

	Owner string        // names this process in the store
	Lease time.Duration // how long a job stays with a process that shows no life
	Poll  time.Duration // how often a queue is looked at, if nothing wakes it; idle, it is looked at less and less often
	Drain time.Duration // how long handlers may go on once the context has ended
	// MaxErrors is how many errors bury a job.
	MaxErrors int
	// MaxDeaths is how many deaths a job may have before it is buried unseen: leases that ran out, and what Died is for. Negative: no number does, and the
	// handler looks at Job.Deaths.
	MaxDeaths int
	// RetryBase and RetryMax bound the pause after an error, which is doubled with each: half of it is random.
	RetryBase, RetryMax time.Duration
	// KeepDone and KeepDead are how long ended jobs stay to be looked at.
	KeepDone, KeepDead time.Duration

	Observer Observer        // may be nil
	Tracer   *tracing.Tracer // may be nil
	Log      *slog.Logger    // may be nil
}

// Defaults of the options.
const (
	DefaultLease     = 10 * time.Second
	DefaultPoll      = 200 * time.Millisecond
	DefaultMaxErrors = 5
	DefaultMaxDeaths = 3
	DefaultRetryBase = time.Second
	DefaultRetryMax  = 5 * time.Minute
	DefaultKeepDone  = 24 * time.Hour
	DefaultKeepDead  = 30 * 24 * time.Hour
)

func (o *Options) complete() error {
	if o.Store == nil || o.Queue == "" || o.Workers < 1 || o.Handler == nil {
		return errors.New("queue: a store, a queue, a handler and at least one worker are needed")
	}
	orDefault(&o.Lease, DefaultLease)
	orDefault(&o.Poll, DefaultPoll)
	orDefault(&o.MaxErrors, DefaultMaxErrors)
	orDefault(&o.MaxDeaths, DefaultMaxDeaths)
	orDefault(&o.RetryBase, DefaultRetryBase)
	orDefault(&o.RetryMax, DefaultRetryMax)
	orDefault(&o.KeepDone, DefaultKeepDone)
	orDefault(&o.KeepDead, DefaultKeepDead)
	if o.Owner == "" {
		host, _ := os.Hostname() // it only names
		o.Owner = fmt.Sprintf("%s/%d", host, os.Getpid())
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Log = o.Log.With("queue", o.Queue)
	return nil
}

func orDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}

// Run runs a queue until ctx ends. Then it claims no more, gives handlers the drain's time, cancels those that still run,
// gives their jobs back, and returns when all have returned. An error is one of the options.
func Run(ctx context.Context, options Options) error {
	if err := options.complete(); err != nil {
		return err
	}
	r := &runner{Options: options, held: map[*claim]struct{}{}, wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	r.working = context.WithoutCancel(ctx)
	beside, stop := context.WithCancel(r.working)
	var besides sync.WaitGroup
	besides.Go(func() { r.Store.WatchJobs(beside, r.Queue, func() { signal(r.wake) }) })
	besides.Go(func() { periodic.Every(beside, r.Lease/3, r.renew) })
	besides.Go(func() { periodic.AtOnceAndEvery(beside, countEvery, r.count) })
	besides.Go(func() { periodic.Every(beside, pruneEvery, r.prune) })
	pool := workpool.Options{Workers: r.Workers, Unordered: true, Drain: r.Drain}
	_, err := workpool.Run(ctx, pool, r.claims, r.handle, r.settle)
	r.releaseHeld()
	stop()
	besides.Wait()
	if ctx.Err() != nil {
		err = nil // it was told to end
	}
	return err
}

// signal never waits: whoever receives looks at everything anyway.
func signal(to chan<- struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// pause is the time before a job's next try, after so many errors or deaths before this one.
func (o *Options) pause(before int) time.Duration {
	pause := o.RetryMax
	if before < 32 && o.RetryBase < o.RetryMax>>before {
		pause = o.RetryBase << before
	}
	return pause/2 + rand.N(pause/2+1)
}
