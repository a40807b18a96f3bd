package charge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rows are a Store.
type rows struct {
	sync.Mutex
	charges []store.Charge // in the order of their ids
	settled map[string]bool
	failing error // of each change
	old     int   // charges that are to be removed
}

func (r *rows) find(most int, wanted func(store.Charge) bool) (found []store.Charge, err error) {
	r.Lock()
	defer r.Unlock()
	for _, c := range r.charges {
		if c.Settled = r.settled[c.ID]; len(found) < most && wanted(c) {
			found = append(found, c)
		}
	}
	return found, nil
}

func (r *rows) UnsettledCharges(_ context.Context, most int) ([]store.Charge, error) {
	return r.find(most, func(c store.Charge) bool { return !r.settled[c.ID] })
}

func (r *rows) TodaysCharges(_ context.Context, after string, most int) ([]store.Charge, error) {
	return r.find(most, func(c store.Charge) bool { return c.ID > after })
}

func (r *rows) SettleCharges(_ context.Context, charges []store.Charge) error {
	r.Lock()
	defer r.Unlock()
	if r.failing != nil {
		return r.failing
	}
	for _, c := range charges {
		r.settled[c.ID] = true
	}
	return nil
}

func (r *rows) PruneCharges(_ context.Context, most int) (int, error) {
	r.Lock()
	defer r.Unlock()
	pruned := min(r.old, most)
	r.old -= pruned
	return pruned, nil
}

// grow adds charges that are to be removed, and returns how many were left.
func (r *rows) grow(by int) (left int) {
	r.Lock()
	defer r.Unlock()
	left = r.old
	r.old += by
	return left
}

func (r *rows) fail(with error) {
	r.Lock()
	defer r.Unlock()
	r.failing = with
}

func (r *rows) add(id string, tokens int64) {
	r.Lock()
	defer r.Unlock()
	r.charges = append(r.charges, store.Charge{
		ID: id, Tenant: "acme", Key: "key", Class: "batch", Tokens: tokens, Day: quota.DayOf(time.Now()),
	})
}

var (
	limits = quota.Limits{TokensPerDay: 1_000_000}
	acme   = identity.Principal{Tenant: "acme", KeyID: "key", Plan: identity.Plan{
		Tenant: identity.ClassLimits{quota.Batch: limits}, Key: identity.ClassLimits{quota.Batch: limits},
	}}
)

// used is what tenant and key have used of the day.
func used(t *testing.T, limiter *quota.Limiter) string {
	t.Helper()
	report, err := limiter.Report(t.Context(), quota.Request{
		Tenant: "acme", Key: "key", Class: quota.Batch, Limits: acme.Plan.Limits(quota.Batch),
	})
	if err != nil || len(report.Limits) != 2 {
		t.Fatal(report, err)
	}
	return fmt.Sprint(limits.TokensPerDay-report.Limits[0].Remaining, limits.TokensPerDay-report.Limits[1].Remaining)
}

// watch runs a book whose limits are empty, as after a start.
func watch(t *testing.T, kept *rows, log *testkit.Log) (*Book, *quota.Limiter, func()) {
	limiter := quota.NewLimiter(quota.NewMemory(time.Now, time.Minute), time.Now)
	book := New(kept, limiter, slog.New(slog.NewTextHandler(log, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	go book.Watch(ctx)
	synctest.Wait()
	return book, limiter, func() {
		cancel()
		synctest.Wait()
	}
}

func TestEachChargeIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := &rows{settled: map[string]bool{"a000": true}}
		for i := range 250 { // more than are told at once; one was told before
			kept.add(fmt.Sprintf("a%03d", i), 2)
		}
		var log testkit.Log
		book, limiter, stop := watch(t, kept, &log)
		if got := used(t, limiter); got != "500 500" || len(kept.settled) != 250 {
			t.Errorf("after the start %s, %d settled", got, len(kept.settled))
		}
		pending := book.Begin("b", acme, quota.Batch)
		held, _, err := limiter.Reserve(t.Context(), quota.Request{
			ID: "line", Tenant: "acme", Key: "key", Class: quota.Batch, Limits: acme.Plan.Limits(quota.Batch),
			Runs: true, MinTokens: 1, MaxTokens: 100, Pending: pending,
		})
		if err != nil {
			t.Fatal(err)
		}
		held.Settle(11)
		if got := used(t, limiter); got != "511 511" {
			t.Errorf("while it runs %s", got)
		}
		kept.fail(errors.New("the disk is full"))
		kept.add("b", 10) // of the 11 one came to nothing
		book.Done(pending)
		synctest.Wait()
		if got := used(t, limiter); got != "510 510" {
			t.Errorf("once it is written %s", got)
		}
		kept.fail(nil)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := used(t, limiter); got != "510 510" || !kept.settled["b"] || len(book.done) != 0 {
			t.Errorf("once it is settled %s, %v", got, book.done)
		}
		if strings.Count(log.String(), "disk is full") != 1 {
			t.Errorf("the log is %q", log.String())
		}
		stop()
		_, limiter, stop = watch(t, kept, &log)
		if got := used(t, limiter); got != "510 510" {
			t.Errorf("after another start %s", got)
		}
		stop()
	})
}

// However much is charged in a minute.
func TestAllOldChargesAreRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := &rows{settled: map[string]bool{}, old: 1234}
		_, _, stop := watch(t, kept, &testkit.Log{})
		defer stop()
		if left := kept.grow(1234); left != 0 {
			t.Errorf("%d are left after the start", left)
		}
		time.Sleep(pruneEvery + 2*lookEvery)
		synctest.Wait()
		if left := kept.grow(0); left != 0 {
			t.Errorf("%d are left a minute later", left)
		}
	})
}

func TestWhatIsLostIsNotCharged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book, limiter, stop := watch(t, &rows{settled: map[string]bool{}}, &testkit.Log{})
		defer stop()
		pending := book.Begin("b", acme, quota.Batch)
		held, _, err := limiter.Reserve(t.Context(), quota.Request{
			ID: "line", Tenant: "acme", Key: "key", Class: quota.Batch, Limits: acme.Plan.Limits(quota.Batch),
			Runs: true, MinTokens: 1, MaxTokens: 100, Pending: pending,
		})
		if err != nil {
			t.Fatal(err)
		}
		held.Settle(11)
		pending.Release()
		pending.Release()
		if got := used(t, limiter); got != "0 0" {
			t.Errorf("got %s", got)
		}
	})
}
