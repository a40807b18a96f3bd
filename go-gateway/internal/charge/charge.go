// Package charge has durable work charged exactly once, whatever dies meanwhile.
//
// Requests of such work are held to the limits like others as they run, and what each has used of the day is held by the
// id of the work ([Book.Begin]). Whoever ends the work writes a row of that id, its tenant, its key and its tokens in the transaction
// that ends it: an outbox. [Book.Watch] tells the limits of these rows, which count each id once, and what was held for it no
// more. So work that was lost with its process is not charged, and what it held comes back when its lease expires; work that is done is charged
// even if the process dies before the limits know of it. docs/limits.md says what is charged when.
//
// Where limits are kept in memory they are forgotten with their process: when one starts, they are told all of the day.
package charge

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/periodic"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/store"
)

const (
	atOnce = 100
	// lookEvery is how soon charges are found that another process has written, and died.
	lookEvery  = time.Second
	pruneEvery = time.Minute
)

// Store is what this needs of package store.
type Store interface {
	UnsettledCharges(ctx context.Context, most int) ([]store.Charge, error)
	TodaysCharges(ctx context.Context, after string, most int) ([]store.Charge, error)
	SettleCharges(ctx context.Context, charges []store.Charge) error
	PruneCharges(ctx context.Context, most int) (int, error)
}

// Book keeps charges. It is safe for concurrent use.
type Book struct {
	store   Store
	limiter *quota.Limiter
	logger  *slog.Logger
	wake    chan struct{}

	replayed string // the id of the last charge of the day that the limits were told of when this began

	mu   sync.Mutex
	done []*quota.Pending // of work whose charge is written
}

// New returns a book that Watch keeps.
func New(kept Store, limiter *quota.Limiter, logger *slog.Logger) *Book {
	return &Book{store: kept, limiter: limiter, logger: logger, wake: make(chan struct{}, 1)}
}

// Begin holds what requests of a piece of work use that name the result as their Pending, until Done, or until it is released since
// the work is lost.
func (b *Book) Begin(id string, owner identity.Principal, class quota.Class) *quota.Pending {
	return b.limiter.Hold(quota.Request{ID: id, Tenant: owner.Tenant, Key: owner.KeyID, Class: class, Limits: owner.Plan.Limits(class)})
}

// Done says that the work has ended, and its charge is written, if it has one.
func (b *Book) Done(pending *quota.Pending) {
	b.mu.Lock()
	b.done = append(b.done, pending)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Watch tells the limits of charges until ctx ends.
func (b *Book) Watch(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	replayed := false
	var pruned time.Time
	var trouble periodic.Trouble
	for {
		var err error
		if !replayed {
			err = b.replay(ctx)
			replayed = err == nil
		}
		if err == nil {
			err = b.settle(ctx)
		}
		if err == nil && time.Since(pruned) > pruneEvery {
			err = periodic.Steps(ctx, func(ctx context.Context) (int, error) { return b.store.PruneCharges(ctx, atOnce) })
			pruned = time.Now()
		}
		if ctx.Err() == nil && trouble.Began(err) {
			b.logger.Warn("the limits could not be told of charges; this is tried again, and until then they are held", "cause", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-b.wake:
		case <-ticker.C:
		}
	}
}

// replay tells the limits of all charges of the day, of which they may have been told: each counts once. After an error it goes on.
func (b *Book) replay(ctx context.Context) error {
	for {
		page, err := b.store.TodaysCharges(ctx, b.replayed, atOnce)
		if err != nil || len(page) == 0 {
			return err
		}
		charges := asTold(page)
		if err := b.limiter.Charge(ctx, charges); err != nil {
			return err
		}
		b.limiter.Settled(asTold(slices.DeleteFunc(page, func(c store.Charge) bool { return !c.Settled }))) // settle tells the others
		b.replayed = charges[len(charges)-1].ID
	}
}

// settle tells the limits of all charges that they were not told of.
func (b *Book) settle(ctx context.Context) error {
	b.mu.Lock()
	done := slices.Clone(b.done)
	b.mu.Unlock()
	for more := true; more; {
		page, err := b.store.UnsettledCharges(ctx, atOnce)
		if err != nil {
			return err
		}
		if len(page) > 0 {
			charges := asTold(page)
			if err := b.limiter.Charge(ctx, charges); err != nil {
				return err
			}
			if err := b.store.SettleCharges(ctx, page); err != nil {
				return err
			}
			b.limiter.Settled(charges)
		}
		more = len(page) == atOnce
	}
	for _, pending := range done { // nothing of them is held any more, whoever told
		pending.Release()
	}
	b.mu.Lock()
	b.done = slices.Delete(b.done, 0, len(done))
	b.mu.Unlock()
	return nil
}

// asTold are charges as the limits of tenant and key are told of them, which count each once.
func asTold(charges []store.Charge) []quota.Charge {
	told := make([]quota.Charge, 0, 2*len(charges))
	for _, c := range charges {
		of := quota.Charge{ID: c.ID, Tenant: c.Tenant, Class: quota.ClassOf(c.Class), Day: c.Day, DayTokens: c.Tokens}
		told = append(told, of)
		of.Key = c.Key
		told = append(told, of)
	}
	return told
}
