// Package batch runs the requests of a file, a line each, when there is nothing else to do.
//
// A batch is cut into segments, ranges of bytes of its file. Each is a job of the lease queue: it runs its lines, keeps what
// came of them as blobs, and ends in one transaction with its counts. When all have, a last job joins the blobs into files.
// So each line is in the output exactly once, and is run at least once. docs/jobs.md tells what is durable when.
//
// How a line is served is for whoever calls Watch; the package must not depend on HTTP.
package batch

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"triptych.dev/gateway/internal/charge"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/periodic"
	"triptych.dev/gateway/internal/queue"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/tracing"
)

const (
	// Window is how long a batch has, as OpenAI names it, and what that is.
	Window   = "24h"
	lifetime = 24 * time.Hour

	// kept is how long a batch can be looked at after its end, where its plan does not say. Its files have lifetimes of their own.
	kept = 30 * 24 * time.Hour
	// maxOpen is how many batches of a tenant may be under way at once.
	maxOpen = 100

	// Bounds of a segment: what a crash has run again.
	segmentLines = 512
	segmentBytes = 1 << 20
	segmentTime  = 10 * time.Second

	watchInterval = time.Second
	watchAtOnce   = 100
)

// Options are what batches need.
type Options struct {
	Store *store.Store
	Files *files.Files
	// PlanOf returns a tenant's plan as it is now, by what its plan was when it created a batch.
	PlanOf func(tenant, was string) (identity.Plan, bool)
	// Charges has each segment charged once.
	Charges *charge.Book
	// Turns keep others from what is run alone; jobs have the same ones.
	Turns *Turns
	// Segments are how many of all batches run at once, Lines how many lines of each.
	Segments, Lines int
	// Drain is how long segments may go on once Watch is to end.
	Drain    time.Duration
	Now      func() time.Time
	Observer queue.Observer  // of the jobs; may be nil
	Tracer   *tracing.Tracer // may be nil
	Logger   *slog.Logger
}

// Batches are all tenants'. It is safe for concurrent use.
type Batches struct {
	Options
	segmentTime time.Duration
	lease       time.Duration    // of the jobs
	watching    periodic.Trouble // of watchTime
}

// New returns the batches of a store. They make progress while Watch runs.
func New(options Options) *Batches {
	return &Batches{Options: options, segmentTime: segmentTime, lease: queue.DefaultLease}
}

// Find returns a tenant's batch.
func (b *Batches) Find(ctx context.Context, tenant, id string) (store.Batch, error) {
	batch, err := b.Store.FindBatch(ctx, tenant, id)
	return batch, explain(err, id)
}

// Page returns a tenant's batches after one, newest first, and whether more follow.
func (b *Batches) Page(ctx context.Context, tenant, after string, most int) (list []store.Batch, more bool, err error) {
	list, more, err = store.PageOf(most, func(most int) ([]store.Batch, error) { return b.Store.BatchesPage(ctx, tenant, after, most) })
	return list, more, explain(err, after)
}

// Cancel has no further line of a tenant's batch begun, but for those of segments that run. What is finished stays.
func (b *Batches) Cancel(ctx context.Context, tenant, id string) (store.Batch, error) {
	batch, err := b.Store.CancelBatch(ctx, tenant, id, b.Now())
	if errors.Is(err, store.ErrEnded) {
		return store.Batch{}, fault.New(fault.BatchEnded, "The batch is %s already, and can no longer be cancelled.", batch.State)
	}
	return batch, explain(err, id)
}

// NotFound says that a tenant has no batch of an id.
func NotFound(id string) error {
	return fault.InField(fault.BatchNotFound, "batch_id", "There is no batch %.100q; GET /v1/batches lists them.", id)
}

func explain(err error, id string) error { return files.Explain(err, NotFound(id)) }

// Request is a line that is to be served, in the class batch.
type Request struct {
	Principal    identity.Principal
	ID, Endpoint string
	Body         []byte
	// Pending is charged what it uses of the day, with all of its segment.
	Pending *quota.Pending
}

// Reply is what a client would have had for it.
type Reply struct {
	Status  int
	Body    []byte
	Failure *fault.Fault // nil where it succeeded
	// NoRoom says that nothing is wrong with the request, and that it may succeed later.
	NoRoom bool
	Tokens store.BatchTokens
}

// Execute serves a line.
type Execute func(ctx context.Context, request Request) Reply

// Watch runs batches until ctx ends.
func (b *Batches) Watch(ctx context.Context, execute Execute) {
	w := &worker{b, execute}
	var beside sync.WaitGroup
	beside.Go(func() { periodic.AtOnceAndEvery(ctx, watchInterval, b.watchTime) })
	err := queue.Run(ctx, queue.Options{
		Store: b.Store, Queue: store.BatchQueue, Workers: b.Segments, Handler: w.handle, Lease: b.lease, Drain: b.Drain, Observer: b.Observer, Tracer: b.Tracer, Log: b.Logger,
		// Nothing buries a job, which its batch would wait for: the handler gives up its lines, or the batch, instead.
		MaxErrors: 1 << 30, MaxDeaths: -1,
		Hold: b.Files.CheckRoom, // results are kept on the disk
	})
	if err != nil {
		b.Logger.Error("batches do not run", "error", err)
	}
	beside.Wait()
}

// watchTime ends batches whose window is over, and forgets those that ended long ago.
func (b *Batches) watchTime(ctx context.Context) {
	_, err := b.Store.ExpireBatches(ctx, b.Now(), watchAtOnce)
	if err == nil {
		_, err = b.Store.PruneBatches(ctx, b.Now(), watchAtOnce)
	}
	if ctx.Err() == nil && b.watching.Began(err) {
		b.Logger.Warn("batches whose time is over could not be ended; this is tried again", "cause", err)
	}
}

// principal is whom a batch's lines are served for.
func (b *Batches) principal(batch *store.Batch) (identity.Principal, error) {
	return Owner(b.PlanOf, batch.Tenant, batch.Key, batch.Plan, batch.Scopes)
}
