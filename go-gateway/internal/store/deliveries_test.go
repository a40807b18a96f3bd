package store

import (
	"errors"
	"testing"
	"time"
)

// delivering has a webhook with one delivery, and its job.
func delivering(t *testing.T, s *Store) Job {
	t.Helper()
	addHook(t, s, "acme", hookOf(1, EventBatchCompleted))
	if err := addEventOf(t.Context(), s, "acme", EventBatchCompleted, nil); err != nil {
		t.Fatal(err)
	}
	return claimDelivery(t, s)
}

func claimDelivery(t *testing.T, s *Store) Job {
	t.Helper()
	if _, err := s.SweepJobs(t.Context()); err != nil {
		t.Fatal(err)
	}
	jobs, err := s.ClaimJobs(t.Context(), WebhookQueue, "a test", 1, time.Minute)
	if err != nil || len(jobs) != 1 {
		t.Fatalf("claimed %v, %v", jobs, err)
	}
	return jobs[0]
}

func record(t *testing.T, s *Store, job Job, try Try) {
	t.Helper()
	try.Sent, try.At = true, noon
	if err := s.RecordTry(t.Context(), job, try); err != nil {
		t.Fatal(err)
	}
}

func TestWhatCameOfADeliveryAndItsJobAreOne(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		job := delivering(t, s)
		look := func(state, jobState string, attempts int) Delivery {
			t.Helper()
			delivery, err := s.FindDelivery(t.Context(), "acme", job.Args, job.ID)
			found, jobErr := s.FindHeldJob(t.Context(), job.ID)
			if err != nil || jobErr != nil || delivery.State != state || found.State != jobState || delivery.Attempts != attempts {
				t.Errorf("got %+v and %+v, want %s, %s and %d attempts; %v, %v", delivery, found, state, jobState, attempts, err, jobErr)
			}
			return delivery
		}
		record(t, s, job, Try{State: DeliveryPending, Status: 500, Error: "no", Again: time.Hour})
		if d := look(DeliveryPending, JobLater, 1); !d.Next.Equal(noon.Add(time.Hour)) || d.Status != 500 || d.Error != "no" || !d.Ended.IsZero() {
			t.Errorf("%+v", d)
		}
		if err := s.RecordTry(t.Context(), job, Try{State: DeliveryDelivered, At: noon}); !errors.Is(err, ErrLost) {
			t.Errorf("whoever has lost the job has written: %v", err)
		}
		look(DeliveryPending, JobLater, 1)
		if _, err := s.ReplayDelivery(t.Context(), "acme", job.Args, job.ID); err != nil { // sooner
			t.Fatal(err)
		}
		look(DeliveryPending, JobReady, 1)
		second := claimDelivery(t, s)
		if replayed, err := s.ReplayDelivery(t.Context(), "acme", job.Args, job.ID); err != nil || replayed.State != DeliveryPending {
			t.Errorf("got %v, %v", replayed, err)
		}
		record(t, s, second, Try{State: DeliveryDead, Error: "gave up"}) // which the replay has not taken away
		if d := look(DeliveryDead, JobDead, 2); !d.Ended.Equal(noon) || !d.Next.IsZero() || d.Status != 0 {
			t.Errorf("%+v", d)
		}
		if _, err := s.ReplayDelivery(t.Context(), "acme", job.Args, job.ID); err != nil {
			t.Fatal(err)
		}
		third := claimDelivery(t, s)
		if third.Errors != 0 || third.Attempt != 3 {
			t.Errorf("a replayed job has its tries anew, and no fence of before: %+v", third)
		}
		record(t, s, third, Try{State: DeliveryDelivered, Status: 204})
		if d := look(DeliveryDelivered, JobDone, 3); d.Status != 204 || d.Error != "" {
			t.Errorf("%+v", d)
		}
		execute(t, s, `DELETE FROM job`) // as a day later
		if _, err := s.ReplayDelivery(t.Context(), "acme", job.Args, job.ID); err != nil {
			t.Fatal(err)
		}
		look(DeliveryPending, JobReady, 3)
	})
}

func TestAReceiverThatIsGoneDisablesTheWebhookUnlessItHasMoved(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		job := delivering(t, s)
		record(t, s, job, Try{State: DeliveryDead, Status: 410, Error: "gone", Gone: "https://before.example"})
		if hook, err := s.FindWebhook(t.Context(), "acme", job.Args); err != nil || !hook.Enabled {
			t.Errorf("got %+v, %v", hook, err)
		}
		if _, err := s.ReplayDelivery(t.Context(), "acme", job.Args, job.ID); err != nil {
			t.Fatal(err)
		}
		record(t, s, claimDelivery(t, s), Try{State: DeliveryDead, Status: 410, Error: "gone", Gone: hookOf(1).URL})
		if hook, err := s.FindWebhook(t.Context(), "acme", job.Args); err != nil || hook.Enabled || hook.DisabledFor != "gone" {
			t.Errorf("got %+v, %v", hook, err)
		}
	})
}

func TestDeliveriesAreListedCountedAndForgotten(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		if n, oldest, err := s.PendingDeliveries(t.Context()); n != 0 || !oldest.IsZero() || err != nil {
			t.Errorf("%d since %v, %v", n, oldest, err)
		}
		job := delivering(t, s)
		if err := addEventOf(t.Context(), s, "acme", EventBatchCompleted, nil); err != nil {
			t.Fatal(err)
		}
		if n, oldest, err := s.PendingDeliveries(t.Context()); n != 2 || !oldest.Equal(noon) || err != nil {
			t.Errorf("%d since %v, %v", n, oldest, err)
		}
		all, err := s.DeliveriesPage(t.Context(), "acme", job.Args, "", 9)
		if err != nil || len(all) != 2 || all[0].ID <= all[1].ID {
			t.Fatalf("%+v, %v", all, err)
		}
		if first, err := s.DeliveriesPage(t.Context(), "acme", job.Args, "", 1); err != nil || len(first) != 1 || first[0] != all[0] {
			t.Errorf("%+v, %v", first, err)
		}
		if rest, err := s.DeliveriesPage(t.Context(), "acme", job.Args, all[0].ID, 9); err != nil || len(rest) != 1 || rest[0] != all[1] {
			t.Errorf("%+v, %v", rest, err)
		}
		record(t, s, job, Try{State: DeliveryDelivered})
		if n, err := s.PruneDeliveries(t.Context(), noon, 10); n != 0 || err != nil {
			t.Errorf("%d pruned, %v", n, err)
		}
		if n, err := s.PruneDeliveries(t.Context(), noon.Add(time.Millisecond), 10); n != 1 || err != nil { // and not what waits
			t.Errorf("%d pruned, %v", n, err)
		}
		if err := s.DeleteWebhook(t.Context(), "acme", job.Args); err != nil {
			t.Fatal(err)
		}
		last := claimDelivery(t, s)
		if _, _, err := s.DeliveryOf(t.Context(), last); !errors.Is(err, ErrNotFound) {
			t.Errorf("the webhook is gone: %v", err)
		}
		if err := s.DropDelivery(t.Context(), last); err != nil {
			t.Error(err)
		}
		if n := s.Count(t, `SELECT count(*) FROM delivery`); n != 0 {
			t.Errorf("%d deliveries are left", n)
		}
	})
}

// TestATenantHasNothingOfAnothersWebhooks asks each method that takes a tenant for another one's.
func TestATenantHasNothingOfAnothersWebhooks(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		job := delivering(t, s)
		for name, ask := range map[string]func() error{
			"find":   func() error { _, err := s.FindWebhook(t.Context(), "globex", job.Args); return err },
			"change": func() error { _, err := s.ChangeWebhook(t.Context(), "globex", job.Args, nil, nil); return err },
			"delete": func() error { return s.DeleteWebhook(t.Context(), "globex", job.Args) },
			"delivery": func() error {
				_, err := s.FindDelivery(t.Context(), "globex", job.Args, job.ID)
				return err
			},
			"replay": func() error {
				_, err := s.ReplayDelivery(t.Context(), "globex", job.Args, job.ID)
				return err
			},
		} {
			if err := ask(); !errors.Is(err, ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if all, err := s.WebhooksPage(t.Context(), "globex", "", 9); err != nil || len(all) != 0 {
			t.Errorf("listed: %v, %v", all, err)
		}
		if page, err := s.DeliveriesPage(t.Context(), "globex", job.Args, "", 10); err != nil || len(page) != 0 {
			t.Errorf("listed: %v, %v", page, err)
		}
	})
}

// Nothing is claimed of those that have enough, and turns go on among the others.
func TestJobsOfTheBusyAreLeft(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		var jobs []Job
		for _, id := range []string{"a1", "a2", "b1", "c1", "c2"} {
			jobs = append(jobs, Job{ID: id, Queue: WebhookQueue, Tenant: id[:1], Args: "wh_" + id})
		}
		if err := s.AddJobs(t.Context(), jobs...); err != nil {
			t.Fatal(err)
		}
		claim := func(busy Busy, want string) {
			t.Helper()
			got := ""
			jobs, err := s.ClaimJobsExcept(t.Context(), WebhookQueue, "a test", 9, time.Minute, busy)
			for _, job := range jobs {
				got += job.ID + " "
			}
			if err != nil || got != want {
				t.Errorf("claimed %q, want %q; %v", got, want, err)
			}
			if err := s.ReleaseJobs(t.Context(), jobs); err != nil {
				t.Error(err)
			}
		}
		claim(Busy{Tenants: []string{"a", "b"}}, "c1 c2 ")
		claim(Busy{Tenants: []string{"c"}, Args: []string{"wh_a1", "wh_b1"}}, "a2 ")
		claim(Busy{Tenants: []string{"a", "b", "c"}}, "")
		claim(Busy{Args: []string{"wh_c1"}}, "b1 c2 a1 a2 ")
	})
}
