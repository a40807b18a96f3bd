package store

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func acted(what string) func(Job) AuditEntry {
	return func(job Job) AuditEntry {
		return AuditEntry{At: time.Now(), By: "test", Act: what, Tenant: job.Tenant, Details: []string{"job=" + job.ID}}
	}
}

func TestJobsAreCountedAndListed(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		began := time.Now().Add(-time.Second)
		other := jobOf("c", "umbrella")
		other.Queue = "other"
		bury(t, s, "b", "acme")
		addJobs(t, s, jobOf("a", "acme"), other)
		held := claimOne(t, s)
		counts, err := s.JobCounts(t.Context())
		if err != nil || len(counts) != 3 {
			t.Fatalf("%+v, %v", counts, err)
		}
		for i, want := range []JobCount{{Queue: "other", State: JobReady}, {Queue: "q", State: JobDead}, {Queue: "q", State: JobLeased}} {
			if got := counts[i]; got.Queue != want.Queue || got.State != want.State || got.Jobs != 1 || got.Oldest.Before(began) || got.Oldest.After(time.Now().Add(time.Minute)) {
				t.Errorf("count %d is %+v, want %+v", i, got, want)
			}
		}
		for _, test := range []struct {
			page JobsPage
			want []string
		}{
			{JobsPage{Most: 10}, []string{"c", "b", "a"}},
			{JobsPage{Most: 2}, []string{"c", "b"}},
			{JobsPage{Most: 2, Before: "b"}, []string{"a"}},
			{JobsPage{Most: 10, Tenant: "umbrella"}, []string{"c"}},
			{JobsPage{Most: 10, Queue: "q"}, []string{"b", "a"}},
			{JobsPage{Most: 10, State: JobLeased}, []string{held.ID}},
			{JobsPage{Most: 10, State: JobDead, Tenant: "umbrella"}, nil},
		} {
			page, err := s.JobsPage(t.Context(), test.page)
			var ids []string
			for _, job := range page {
				ids = append(ids, job.ID)
			}
			if err != nil || !reflect.DeepEqual(ids, test.want) {
				t.Errorf("%+v: %v, %v", test.page, ids, err)
			}
		}
		if found, err := s.FindHeldJob(t.Context(), held.ID); err != nil || found.Owner == "" || !found.Ended.IsZero() {
			t.Errorf("%+v, %v", found, err)
		}
		if found, err := s.FindHeldJob(t.Context(), "b"); err != nil || found.Owner != "" || found.Ended.IsZero() || found.Error == "" {
			t.Errorf("%+v, %v", found, err)
		}
		if _, err := s.FindHeldJob(t.Context(), "x"); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	})
}

// TestActsOnDeadJobsAreAudited in the transaction that does them.
func TestActsOnDeadJobsAreAudited(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		version, err := s.KeysVersion(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		bury(t, s, "a", "acme")
		bury(t, s, "b", "umbrella")
		if job, err := s.ReplayDead(t.Context(), "a", acted("replayed")); err != nil || job.Tenant != "acme" {
			t.Errorf("%+v, %v", job, err)
		}
		if job := findJob(t, s, "a"); job.State != JobReady || job.Errors != 0 {
			t.Errorf("%+v", job)
		}
		if _, err := s.DropDead(t.Context(), "b", acted("dropped")); err != nil {
			t.Error(err)
		}
		for _, id := range []string{"a", "b", "x"} { // it is not dead, or not there
			for _, act := range []func() (Job, error){
				func() (Job, error) { return s.ReplayDead(t.Context(), id, acted("wrong")) },
				func() (Job, error) { return s.DropDead(t.Context(), id, acted("wrong")) },
			} {
				if _, err := act(); !errors.Is(err, ErrNotFound) {
					t.Errorf("%s: %v", id, err)
				}
			}
		}
		log, err := s.AuditLog(t.Context(), 0, 10)
		if err != nil || len(log) != 2 || log[0].Act != "dropped" || log[0].Tenant != "umbrella" || log[1].Act != "replayed" || log[1].Details[0] != "job=a" {
			t.Errorf("%+v, %v", log, err)
		}
		if now, err := s.KeysVersion(t.Context()); err != nil || now != version {
			t.Errorf("gateways read all keys again: %d, %v", now, err)
		}
	})
}

// TestADeadSegmentIsReplayed, and its batch ends; to drop it, or what puts the results together, would leave the batch without an end.
func TestADeadSegmentIsReplayed(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Gateway)
		addInput(t, s, "acme")
		addBatch(t, s, "batch_1", "acme", 2)
		jobs := claimBatch(t, s, 2)
		if err := s.BuryJob(t.Context(), jobs[0], "broken"); err != nil {
			t.Fatal(err)
		}
		if err := finish(t, s, jobs[1]); err != nil {
			t.Fatal(err)
		}
		dropRefused := func(id string) {
			t.Helper()
			if _, err := s.DropDead(t.Context(), id, acted("dropped")); !errors.Is(err, ErrNeeded) || !strings.Contains(err.Error(), "batch_1 waits") {
				t.Errorf("drop %s: %v", id, err)
			}
		}
		dropRefused(jobs[0].ID)
		if _, err := s.ReplayDead(t.Context(), jobs[0].ID, acted("replayed")); err != nil {
			t.Fatal(err)
		}
		if err := finish(t, s, claimBatch(t, s, 1)[0]); err != nil {
			t.Fatal(err)
		}
		last := claimBatch(t, s, 1)[0]
		if last.Kind != FinalizeJob {
			t.Fatalf("%+v", last)
		}
		if err := s.BuryJob(t.Context(), last, "broken"); err != nil {
			t.Fatal(err)
		}
		dropRefused(last.ID)
		if _, err := s.ReplayDead(t.Context(), last.ID, acted("replayed")); err != nil {
			t.Fatal(err)
		}
		last = claimBatch(t, s, 1)[0]
		batch := found(t, s, "acme", "batch_1")
		batch.State = BatchCompleted
		if err := s.FinishBatch(t.Context(), last, batch, nil, nil, time.Now(), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if batch := found(t, s, "acme", "batch_1"); batch.State != BatchCompleted || batch.Pending != 0 {
			t.Errorf("%+v", batch)
		}
	})
}

// TestADeadSegmentOfAStoppedBatchIsGone: there is nothing to replay, and its lines count as not run.
func TestADeadSegmentOfAStoppedBatchIsGone(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Gateway)
		addInput(t, s, "acme")
		addBatch(t, s, "batch_1", "acme", 1)
		job := claimBatch(t, s, 1)[0]
		if err := s.BuryJob(t.Context(), job, "broken"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.CancelBatch(t.Context(), "acme", "batch_1", time.Now()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.ReplayDead(t.Context(), job.ID, acted("replayed")); !errors.Is(err, ErrNotFound) {
			t.Errorf("replayed: %v", err)
		}
		if last := claimBatch(t, s, 1)[0]; last.Kind != FinalizeJob {
			t.Errorf("%+v", last)
		}
	})
}

// TestADeadDeliveryIsReplayed with its row, which says that it waits again.
func TestADeadDeliveryIsReplayed(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		job := delivering(t, s)
		record(t, s, job, Try{State: DeliveryDead, Error: "gave up"})
		if _, err := s.ReplayDead(t.Context(), job.ID, acted("replayed")); err != nil {
			t.Fatal(err)
		}
		delivery, err := s.FindDelivery(t.Context(), "acme", job.Args, job.ID)
		if err != nil || delivery.State != DeliveryPending || !delivery.Ended.IsZero() || findJob(t, s, job.ID).State != JobReady {
			t.Errorf("%+v, %v", delivery, err)
		}
	})
}
