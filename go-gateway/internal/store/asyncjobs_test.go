package store

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

func asyncOf(id, tenant string) AsyncJob {
	return AsyncJob{
		ID: id, Tenant: tenant, Key: "key", Scopes: "class:batch", Plan: "plan", Endpoint: "/v1/embeddings", Model: "m", Metadata: `{"a":"b"}`,
		Body: hashOf("body"), BodyBytes: 100, Created: created, Expires: created.Add(time.Hour),
	}
}

func addAsync(t *testing.T, s *Store, id, tenant string) {
	t.Helper()
	if err := s.AddAsyncJob(t.Context(), tenant, asyncOf(id, tenant), BatchLimits{}, nil); err != nil {
		t.Fatal(err)
	}
}

func claimAsync(t *testing.T, s *Store, most int) []Job {
	t.Helper()
	jobs, err := s.ClaimJobs(t.Context(), AsyncQueue, "a test", most, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return jobs
}

func foundAsync(t *testing.T, s *Store, tenant, id string) AsyncJob {
	t.Helper()
	job, err := s.FindAsyncJob(t.Context(), tenant, id, created)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// forgetAt is when the tests' jobs are forgotten that ended when they were created.
var forgetAt = created.Add(2 * time.Hour)

func forgotten(*AsyncJob) time.Time { return forgetAt }

func completed() AsyncResult {
	return AsyncResult{State: AsyncCompleted, Status: 200, Body: hashOf("o"), Bytes: 9, Tokens: BatchTokens{5, 1, 2}}
}

func finishAsync(t *testing.T, s *Store, job Job, result AsyncResult) error {
	t.Helper()
	return s.FinishAsyncJob(t.Context(), job, job.Tenant, result, created, forgetAt)
}

// checkOpen holds what a tenant's open jobs are counted as, and are.
func checkOpen(t *testing.T, s *Store, tenant string, want int) {
	t.Helper()
	open := s.Count(t, `SELECT count(*) FROM async_job WHERE tenant = $1 AND ended_at IS NULL`, tenant)
	counted := s.Count(t, `SELECT coalesce(max(jobs), 0) FROM batch_limit WHERE tenant = $1`, tenant)
	bytes := s.Count(t, `SELECT coalesce(max(job_bytes), 0) FROM batch_limit WHERE tenant = $1`, tenant)
	if open != want || counted != want || bytes != 100*want {
		t.Errorf("%d are open, counted as %d of %d bytes, want %d", open, counted, bytes, want)
	}
}

func checkNamed(t *testing.T, s *Store, body, result bool) {
	t.Helper()
	for text, want := range map[string]bool{"body": body, "o": result} {
		if named, err := s.BlobReferenced(t.Context(), hashOf(text)); named != want || err != nil {
			t.Errorf("%q is named: %v, %v", text, named, err)
		}
	}
}

func TestTheLifeOfAnAsyncJob(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		addAsync(t, s, "job_1", "acme")
		want := asyncOf("job_1", "acme")
		want.State, want.Result.State = AsyncQueued, AsyncQueued
		if found := foundAsync(t, s, "acme", "job_1"); found != want {
			t.Errorf("%+v, want %+v", found, want)
		}
		checkOpen(t, s, "acme", 1)
		checkNamed(t, s, true, false)
		job := claimAsync(t, s, 10)[0]
		if found := foundAsync(t, s, "acme", "job_1"); found.State != AsyncInProgress || job.ID != "job_1" || job.Tenant != "acme" {
			t.Errorf("%+v, %+v", found, job)
		}
		if err := s.RetryJob(t.Context(), job, time.Hour, "no room"); err != nil {
			t.Fatal(err)
		}
		if found := foundAsync(t, s, "acme", "job_1"); found.State != AsyncQueued {
			t.Errorf("%+v", found)
		}
		setClock(s, 2*time.Hour)
		sweep(t, s, 1)
		again := claimAsync(t, s, 10)[0]
		if err := finishAsync(t, s, job, completed()); !errors.Is(err, ErrLost) {
			t.Errorf("an earlier claim wrote a result: %v", err)
		}
		if err := finishAsync(t, s, again, completed()); err != nil {
			t.Fatal(err)
		}
		if err := finishAsync(t, s, again, completed()); !errors.Is(err, ErrLost) {
			t.Errorf("finished twice: %v", err)
		}
		found := foundAsync(t, s, "acme", "job_1")
		if found.State != AsyncCompleted || found.Result != completed() || !found.Ended.Equal(created) || !found.Forgotten.Equal(forgetAt) || found.Body != "" {
			t.Errorf("%+v", found)
		}
		checkOpen(t, s, "acme", 0)
		checkNamed(t, s, false, true)
		if page, err := s.BlobsPage(t.Context(), "", 10); err != nil || len(page) != 1 || page[0] != (BlobRow{hashOf("o"), 9}) {
			t.Errorf("%+v, %v", page, err)
		}
		if _, err := s.FindAsyncJob(t.Context(), "acme", "job_1", forgetAt); !errors.Is(err, ErrNotFound) {
			t.Errorf("it is found after its time: %v", err)
		}
		if list, err := s.AsyncJobsPage(t.Context(), "acme", "", 10, forgetAt); err != nil || len(list) != 0 {
			t.Errorf("%+v, %v", list, err)
		}
		for _, test := range []struct {
			at   time.Time
			want int
		}{{forgetAt.Add(-time.Second), 0}, {forgetAt, 1}} {
			if forgotten, err := s.ForgetAsyncJobs(t.Context(), test.at, 10); forgotten != test.want || err != nil {
				t.Errorf("at %v %d are forgotten, %v", test.at, forgotten, err)
			}
		}
		checkNamed(t, s, false, false)
		if left := s.Count(t, `SELECT count(*) FROM async_job`); left != 0 {
			t.Errorf("%d are left", left)
		}
	})
}

// What runs when a job is cancelled cannot write its result.
func TestAnAsyncJobIsCancelled(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		cancel := func(id string) error {
			job, err := s.CancelAsyncJob(t.Context(), "acme", id, created, forgetAt)
			if err == nil && (job.State != AsyncCancelled || job.Ended.IsZero()) {
				t.Errorf("%+v", job)
			}
			return err
		}
		addAsync(t, s, "job_1", "acme")
		running := claimAsync(t, s, 1)[0]
		addAsync(t, s, "job_2", "acme")
		for _, id := range []string{"job_1", "job_2", "job_2"} { // the last one changes nothing
			if err := cancel(id); err != nil {
				t.Errorf("%s: %v", id, err)
			}
		}
		if err := finishAsync(t, s, running, completed()); !errors.Is(err, ErrLost) {
			t.Errorf("a result was written after that: %v", err)
		}
		if lost, err := s.RenewJobs(t.Context(), []Job{running}, time.Minute); err != nil || len(lost) != 1 {
			t.Errorf("the lease goes on: %v, %v", lost, err)
		}
		if jobs := claimAsync(t, s, 10); len(jobs) != 0 {
			t.Errorf("begun after that: %+v", jobs)
		}
		checkOpen(t, s, "acme", 0)
		checkNamed(t, s, false, false)
		addAsync(t, s, "job_3", "acme")
		if err := finishAsync(t, s, claimAsync(t, s, 1)[0], completed()); err != nil {
			t.Fatal(err)
		}
		if err := cancel("job_3"); !errors.Is(err, ErrEnded) {
			t.Error(err)
		}
		if found := foundAsync(t, s, "acme", "job_3"); found.State != AsyncCompleted {
			t.Errorf("%+v", found)
		}
	})
}

func TestAnAsyncJobExpires(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		addAsync(t, s, "job_1", "acme")
		running := claimAsync(t, s, 1)[0]
		addAsync(t, s, "job_2", "acme")
		if expired, err := s.ExpireAsyncJobs(t.Context(), created.Add(time.Hour-time.Millisecond), forgotten, 10); err != nil || len(expired) != 0 {
			t.Errorf("before their time: %v, %v", expired, err)
		}
		expired, err := s.ExpireAsyncJobs(t.Context(), created.Add(time.Hour), forgotten, 10)
		if err != nil || len(expired) != 1 || expired[0] != "job_2" {
			t.Errorf("%v, %v", expired, err)
		}
		if found := foundAsync(t, s, "acme", "job_2"); found.State != AsyncExpired || found.Body != "" {
			t.Errorf("%+v", found)
		}
		if err := finishAsync(t, s, running, completed()); err != nil {
			t.Errorf("what ran did not come to its end: %v", err)
		}
		if jobs := claimAsync(t, s, 10); len(jobs) != 0 {
			t.Errorf("%+v", jobs)
		}
		checkOpen(t, s, "acme", 0)
	})
}

// What was given up waits for an operator, who may have it run again.
func TestAnAsyncJobThatWasGivenUpIsReplayed(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		addAsync(t, s, "job_1", "acme")
		given := AsyncResult{State: AsyncFailed, ErrorCode: "not_survived", Error: "it kills", Dead: "it kills"}
		if err := finishAsync(t, s, claimAsync(t, s, 1)[0], given); err != nil {
			t.Fatal(err)
		}
		found := foundAsync(t, s, "acme", "job_1")
		if found.State != AsyncFailed || found.Result.ErrorCode != "not_survived" || found.Result.Error != "it kills" {
			t.Errorf("%+v", found)
		}
		checkNamed(t, s, true, false)
		checkOpen(t, s, "acme", 0)
		dead, err := s.JobsPage(t.Context(), JobsPage{Tenant: "acme", State: JobDead, Most: 10})
		if err != nil || len(dead) != 1 || dead[0].Error != "it kills" || dead[0].Queue != AsyncQueue {
			t.Errorf("%+v, %v", dead, err)
		}
		if _, err := s.ReplayDead(t.Context(), "job_1", acted("replayed")); err != nil {
			t.Fatal(err)
		}
		found = foundAsync(t, s, "acme", "job_1")
		if found.State != AsyncQueued || found.Result.ErrorCode != "" || !found.Ended.IsZero() || time.Until(found.Expires) < 50*time.Minute {
			t.Errorf("%+v", found)
		}
		checkOpen(t, s, "acme", 1)
		if err := finishAsync(t, s, claimAsync(t, s, 1)[0], completed()); err != nil {
			t.Fatal(err)
		}
		checkOpen(t, s, "acme", 0)
	})
}

// Jobs and batches of a tenant have one share of tokens, however many are added at once.
func TestAsyncJobsKeepToTheirTenantsLimits(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		addBatch(t, s, "batch_1", "acme", 2) // of 200
		var group sync.WaitGroup
		refused := make(chan error, 8)
		for i := range 8 {
			group.Go(func() {
				id := fmt.Sprint("job_", i)
				if err := s.AddAsyncJob(t.Context(), "acme", asyncOf(id, "acme"), BatchLimits{Enqueued: 550}, nil); err != nil {
					refused <- err
				}
			})
		}
		group.Wait()
		if len(refused) != 5 {
			t.Errorf("%d of 8 were refused", len(refused))
		}
		if full, is := errors.AsType[ErrBatchLimit](<-refused); !is || full.Most.Enqueued != 550 || full.Used != (BatchLimits{Batches: 1, Jobs: 3, Enqueued: 500}) {
			t.Errorf("%+v", full)
		}
		if full, is := errors.AsType[ErrBatchLimit](s.AddAsyncJob(t.Context(), "acme", asyncOf("job_9", "acme"), BatchLimits{Jobs: 3}, nil)); !is || full.Used.Jobs != 3 {
			t.Errorf("%+v", full)
		}
		batch, list := batchOf("batch_2", "acme", 1)
		if _, is := errors.AsType[ErrBatchLimit](s.AddBatch(t.Context(), "acme", batch, list, BatchLimits{Enqueued: 550}, nil)); !is {
			t.Error("a batch does not count the jobs")
		}
		checkOpen(t, s, "acme", 3)
		addAsync(t, s, "job_a", "globex")
	})
}

// Nobody sees another's job, or changes it.
func TestAsyncJobsAreTheirTenants(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		addAsync(t, s, "job_1", "acme")
		addAsync(t, s, "job_2", "acme")
		_, findErr := s.FindAsyncJob(t.Context(), "globex", "job_1", created)
		_, cancelErr := s.CancelAsyncJob(t.Context(), "globex", "job_1", created, forgetAt)
		aloneErr := s.BeginAlone(t.Context(), Job{ID: "job_1", Deaths: 2}, "globex")
		for what, err := range map[string]error{"find": findErr, "cancel": cancelErr, "begin alone": aloneErr} {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if list, err := s.AsyncJobsPage(t.Context(), "globex", "", 10, created); err != nil || len(list) != 0 {
			t.Errorf("%+v, %v", list, err)
		}
		job := claimAsync(t, s, 1)[0]
		if err := s.FinishAsyncJob(t.Context(), job, "globex", completed(), created, forgetAt); !errors.Is(err, ErrLost) {
			t.Error(err)
		}
		if list, err := s.AsyncJobsPage(t.Context(), "acme", "job_2", 10, created); err != nil || len(list) != 1 || list[0].ID != "job_1" || list[0].State != AsyncInProgress {
			t.Errorf("%+v, %v", list, err)
		}
		checkOpen(t, s, "acme", 2)
	})
}
