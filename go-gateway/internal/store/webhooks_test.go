package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const mostHooks = 3

func hookOf(n int, events ...string) Webhook {
	return Webhook{
		ID: fmt.Sprintf("wh_%04d", n), URL: fmt.Sprintf("https://receiver.example/%d", n), Events: events, Name: "näme",
		Enabled: true, Secret: "whsec_new", OldSecret: "whsec_old", OldUntil: noon.Add(time.Hour), Created: noon, Updated: noon,
	}
}

func addHook(t *testing.T, s *Store, tenant string, hook Webhook) {
	t.Helper()
	if err := s.AddWebhook(t.Context(), tenant, hook, mostHooks, nil); err != nil {
		t.Fatal(err)
	}
}

func TestAWebhookIsReadAsItWasAddedAndChanged(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		hook := hookOf(1, EventBatchCompleted, EventBatchFailed)
		addHook(t, s, "acme", hook)
		hook.Tenant = "acme"
		check := func(want Webhook) {
			t.Helper()
			found, err := s.FindWebhook(t.Context(), "acme", want.ID)
			if err != nil || fmt.Sprint(found) != fmt.Sprint(want) {
				t.Errorf("got %v, want %v; %v", found, want, err)
			}
		}
		check(hook)
		change := func(hook *Webhook) error {
			hook.URL, hook.Events, hook.Enabled, hook.DisabledFor = "https://other.example", []string{EventBatchExpired}, false, "gone"
			hook.Secret, hook.OldSecret, hook.OldUntil, hook.Updated = "whsec_newer", "", time.Time{}, noon.Add(time.Second)
			return nil
		}
		changed, err := s.ChangeWebhook(t.Context(), "acme", hook.ID, change, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = change(&hook)
		check(changed)
		check(hook)
		refusal := errors.New("not so")
		if _, err := s.ChangeWebhook(t.Context(), "acme", hook.ID, func(hook *Webhook) error { hook.URL = ""; return refusal }, nil); !errors.Is(err, refusal) {
			t.Errorf("got %v", err)
		}
		check(hook)
		addHook(t, s, "acme", hookOf(2))
		if first, err := s.WebhooksPage(t.Context(), "acme", "", 1); err != nil || len(first) != 1 || first[0].ID != "wh_0002" {
			t.Errorf("got %v, %v", first, err)
		}
		if rest, err := s.WebhooksPage(t.Context(), "acme", "wh_0002", 9); err != nil || len(rest) != 1 || rest[0].ID != hook.ID {
			t.Errorf("got %v, %v", rest, err)
		}
		if err := s.DeleteWebhook(t.Context(), "acme", hook.ID); err != nil {
			t.Error(err)
		}
		if _, err := s.FindWebhook(t.Context(), "acme", hook.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("deleted, and got %v", err)
		}
	})
}

func TestNoTwoWebhooksTogetherExceedWhatATenantMayHave(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		var group sync.WaitGroup
		var added, refused atomic.Int64
		for n := range 4 * mostHooks {
			group.Go(func() {
				switch err := s.AddWebhook(t.Context(), "acme", hookOf(n), mostHooks, nil); {
				case err == nil:
					added.Add(1)
				case errors.Is(err, ErrWebhookLimit):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		group.Wait()
		if added.Load() != mostHooks || refused.Load() != 3*mostHooks {
			t.Errorf("%d added, %d refused", added.Load(), refused.Load())
		}
	})
}

func addEventOf(ctx context.Context, s *Store, tenant, kind string, beside error) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		if err := s.addEvent(ctx, tx, tenant, kind, "batch_1", "", noon); err != nil {
			return err
		}
		return beside
	})
}

// Enabled webhooks of the tenant that list the type are told, each once, by jobs; and nobody else.
func TestAnEventIsForTheWebhooksThatWantIt(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		disabled := hookOf(3, EventBatchCompleted)
		disabled.Enabled = false
		addHook(t, s, "acme", hookOf(1, EventBatchFailed, EventBatchCompleted))
		addHook(t, s, "acme", hookOf(2, EventBatchFailed))
		addHook(t, s, "acme", disabled)
		addHook(t, s, "globex", hookOf(4, EventBatchCompleted))
		aborted := errors.New("aborted")
		if err := addEventOf(t.Context(), s, "acme", EventBatchCompleted, aborted); !errors.Is(err, aborted) {
			t.Fatal(err)
		}
		if n := s.Count(t, `SELECT (SELECT count(*) FROM delivery) + (SELECT count(*) FROM job)`); n != 0 {
			t.Errorf("%d rows of a transaction that was taken back", n)
		}
		if err := addEventOf(t.Context(), s, "acme", EventBatchCompleted, nil); err != nil {
			t.Fatal(err)
		}
		jobs, err := s.ClaimJobs(t.Context(), WebhookQueue, "a test", 10, time.Minute)
		if err != nil || len(jobs) != 1 || jobs[0].Args != "wh_0001" || jobs[0].Tenant != "acme" {
			t.Fatalf("got %+v, %v", jobs, err)
		}
		delivery, hook, err := s.DeliveryOf(t.Context(), jobs[0])
		if err != nil || hook.ID != "wh_0001" || delivery.Type != EventBatchCompleted || delivery.Object != "batch_1" ||
			!delivery.At.Equal(noon) || delivery.State != DeliveryPending || delivery.Event == "" {
			t.Errorf("got %+v of %+v, %v", delivery, hook, err)
		}
		if n := s.Count(t, `SELECT count(*) FROM delivery`); n != 1 {
			t.Errorf("%d deliveries", n)
		}
		if err := addEventOf(t.Context(), s, "acme", "batch.lost", nil); err == nil {
			t.Error("an unknown type was taken")
		}
	})
}

// Each end of a batch is an event, in the transaction of the end.
func TestTheEndOfABatchIsAnEvent(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		addHook(t, s, "acme", hookOf(1, EventTypes...))
		for _, state := range []string{BatchCompleted, BatchFailed, BatchExpired, BatchCancelled} {
			id := "batch_" + state
			addBatch(t, s, id, "acme", 1)
			if err := finish(t, s, claimBatch(t, s, 1)[0]); err != nil {
				t.Fatal(err)
			}
			last := claimBatch(t, s, 1)[0]
			batch := found(t, s, "acme", id)
			batch.State = state
			stale := last
			stale.Attempt--
			if err := s.FinishBatch(t.Context(), stale, batch, nil, nil, created, created.Add(time.Hour)); !errors.Is(err, ErrLost) {
				t.Errorf("got %v", err)
			}
			if err := s.FinishBatch(t.Context(), last, batch, nil, nil, created, created.Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			told, err := s.DeliveriesPage(t.Context(), "acme", "wh_0001", "", 10)
			if i := slices.IndexFunc(told, func(d Delivery) bool { return d.Object == id && d.Type == "batch."+state }); err != nil || i < 0 {
				t.Errorf("%s: %+v, %v", state, told, err)
			}
		}
		if n := s.Count(t, `SELECT count(*) FROM delivery`); n != 4 {
			t.Errorf("%d deliveries of four ends", n)
		}
	})
}
