package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const thresholds = `{"review":0.4,"flagged":0.8}`

func moderationOf(id, tenant string, inputs int64) AsyncJob {
	job := asyncOf(id, tenant)
	job.Endpoint, job.Thresholds, job.Inputs = "/v1/moderations", thresholds, inputs
	return job
}

// judged is the result of a job with people to be asked about some of its inputs.
func judged(inputs ...int) AsyncResult {
	result := completed()
	result.Judged = &Judged{Verdict: "passed", Content: hashOf("content"), Bytes: 7, Forget: forgetAt.Add(time.Hour)}
	for _, input := range inputs {
		result.Judged.Verdict = "review"
		result.Judged.Reviews = append(result.Judged.Reviews, Review{Input: input, Category: "hate", Score: "0.5"})
	}
	return result
}

// moderate has a job of so many inputs end.
func moderate(t *testing.T, s *Store, id, tenant string, inputs int64, reviewed ...int) {
	t.Helper()
	if err := s.AddAsyncJob(t.Context(), tenant, moderationOf(id, tenant, inputs), BatchLimits{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := finishAsync(t, s, claimAsync(t, s, 1)[0], judged(reviewed...)); err != nil {
		t.Fatal(err)
	}
}

func reviews(t *testing.T, s *Store, tenant string, status ReviewStatus, after string) (ids []string) {
	t.Helper()
	page, err := s.ReviewsPage(t.Context(), tenant, status, after, 10, created)
	if err != nil {
		t.Fatal(err)
	}
	for _, review := range page {
		ids = append(ids, review.ID)
	}
	return ids
}

func TestWrongCountsOfOpenJobsAreFound(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		moderate(t, s, "job_1", "acme", 3, 1, 2)
		if err := s.AddAsyncJob(t.Context(), "acme", moderationOf("job_2", "acme", 2), BatchLimits{}, nil); err != nil {
			t.Fatal(err)
		}
		for _, column := range []string{"jobs", "job_bytes", "reviews", "review_bytes"} {
			if _, err := s.Check(t.Context()); err != nil {
				t.Error(err)
			}
			execute(t, s, `UPDATE batch_limit SET `+column+` = `+column+` + 1`)
			if _, err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "of 1 tenants the open jobs") {
				t.Errorf("%s: %v", column, err)
			}
			execute(t, s, `UPDATE batch_limit SET `+column+` = `+column+` - 1`)
		}
	})
}

// checkCounted holds how many of a tenant's texts wait for people, or may come to, and that their bytes are counted.
func checkCounted(t *testing.T, s *Store, tenant string, want int) {
	t.Helper()
	open := s.Count(t, `SELECT coalesce(sum(inputs), 0) FROM async_job WHERE tenant = $1 AND ended_at IS NULL`, tenant)
	pending := s.Count(t, `SELECT count(*) FROM moderation_review WHERE tenant = $1 AND decided_at IS NULL`, tenant)
	counted := s.Count(t, `SELECT coalesce(max(reviews), 0) FROM batch_limit WHERE tenant = $1`, tenant)
	if open+pending != want || counted != want {
		t.Errorf("%d are open and %d pending, counted as %d, want %d", open, pending, counted, want)
	}
	bodies := s.Count(t, `SELECT coalesce(sum(body_bytes), 0) FROM async_job WHERE tenant = $1 AND ended_at IS NULL AND inputs > 0`, tenant)
	contents := s.Count(t, `SELECT coalesce(sum(bytes), 0) FROM (SELECT max(content_bytes) AS bytes FROM moderation_review
		WHERE tenant = $1 AND decided_at IS NULL GROUP BY job) AS waiting`, tenant)
	if counted := s.Count(t, `SELECT coalesce(max(review_bytes), 0) FROM batch_limit WHERE tenant = $1`, tenant); bodies+contents != counted {
		t.Errorf("bodies of %d bytes are open and contents of %d pending, counted as %d", bodies, contents, counted)
	}
}

// told lists the events that a webhook of acme's is told of, and what they say.
func told(t *testing.T, s *Store) (events []string) {
	t.Helper()
	list, err := query(t.Context(), s, scanDelivery, `SELECT `+deliveryColumns+` FROM delivery WHERE type NOT LIKE 'job.%' ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	for _, delivery := range list {
		events = append(events, delivery.Type+" "+delivery.Object+" "+delivery.Data)
	}
	return events
}

// What came of a job, the texts that people are asked about and the event are written together.
func TestAJudgedJobLeavesItsReviewsAndAnEvent(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		addHook(t, s, "acme", hookOf(1, EventTypes...))
		if err := s.AddAsyncJob(t.Context(), "acme", moderationOf("job_1", "acme", 3), BatchLimits{}, nil); err != nil {
			t.Fatal(err)
		}
		if found := foundAsync(t, s, "acme", "job_1"); found.Thresholds != thresholds || found.Inputs != 3 || found.Verdict != "" {
			t.Errorf("%+v", found)
		}
		checkCounted(t, s, "acme", 3)
		job := claimAsync(t, s, 1)[0]
		lost := job
		lost.Attempt--
		if err := finishAsync(t, s, lost, judged(0, 2)); !errors.Is(err, ErrLost) {
			t.Fatal(err)
		}
		if ids := reviews(t, s, "acme", AnyReview, ""); ids != nil || told(t, s) != nil {
			t.Errorf("an earlier claim left %v, and told %v", ids, told(t, s))
		}
		if err := finishAsync(t, s, job, judged(0, 2)); err != nil {
			t.Fatal(err)
		}
		if found := foundAsync(t, s, "acme", "job_1"); found.Verdict != "review" {
			t.Errorf("%+v", found)
		}
		checkCounted(t, s, "acme", 2)
		if ids := reviews(t, s, "acme", PendingReview, ""); fmt.Sprint(ids) != "[modrev_1_00000 modrev_1_00002]" {
			t.Error(ids)
		}
		review, err := s.FindReview(t.Context(), "acme", "modrev_1_00002", created)
		want := Review{
			ID: "modrev_1_00002", Tenant: "acme", Job: "job_1", Input: 2, Thresholds: thresholds, Category: "hate", Score: "0.5",
			Content: hashOf("content"), Bytes: 7, Created: created, Forgotten: forgetAt.Add(time.Hour),
		}
		if err != nil || review != want {
			t.Errorf("%+v, want %+v, %v", review, want, err)
		}
		if events := fmt.Sprint(told(t, s)); events != `[moderation.review job_1 {"id":"job_1","status":"completed","verdict":"review","metadata":{"a":"b"}}]` {
			t.Error(events)
		}
		if named, err := s.BlobReferenced(t.Context(), hashOf("content")); err != nil || !named {
			t.Errorf("the texts are not kept: %v", err)
		}
		if page, err := s.BlobsPage(t.Context(), "", 10); err != nil || len(page) != 2 {
			t.Errorf("%+v, %v", page, err)
		}
		if waiting, oldest, err := s.PendingReviews(t.Context()); err != nil || waiting != 2 || !oldest.Equal(created) {
			t.Errorf("%d wait since %v, %v", waiting, oldest, err)
		}
	})
}

// A job that has no verdict asks nobody, and gives back what it had reserved.
func TestAJobThatHasNoVerdict(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		addHook(t, s, "acme", hookOf(1, EventTypes...))
		add := func(id string) {
			t.Helper()
			if err := s.AddAsyncJob(t.Context(), "acme", moderationOf(id, "acme", 3), BatchLimits{}, nil); err != nil {
				t.Fatal(err)
			}
		}
		add("job_1")
		if _, err := s.CancelAsyncJob(t.Context(), "acme", "job_1", created, forgetAt); err != nil {
			t.Fatal(err)
		}
		add("job_2")
		if expired, err := s.ExpireAsyncJobs(t.Context(), created.Add(time.Hour), forgotten, 10); err != nil || len(expired) != 1 {
			t.Fatalf("%v, %v", expired, err)
		}
		add("job_3")
		given := AsyncResult{State: AsyncFailed, ErrorCode: "not_survived", Dead: "it kills"}
		if err := finishAsync(t, s, claimAsync(t, s, 1)[0], given); err != nil {
			t.Fatal(err)
		}
		checkCounted(t, s, "acme", 0)
		if _, err := s.ReplayDead(t.Context(), "job_3", acted("replayed")); err != nil {
			t.Fatal(err)
		}
		checkCounted(t, s, "acme", 3)
		if err := finishAsync(t, s, claimAsync(t, s, 1)[0], judged()); err != nil {
			t.Fatal(err)
		}
		checkCounted(t, s, "acme", 0)
		if ids := reviews(t, s, "acme", AnyReview, ""); ids != nil {
			t.Error(ids)
		}
		var types []string
		for _, event := range told(t, s) {
			types = append(types, event[:len("moderation.failed job_2")])
		}
		slices.Sort(types) // of one moment
		if fmt.Sprint(types) != "[moderation.failed job_2 moderation.failed job_3 moderation.passed job_3]" {
			t.Error(types)
		}
	})
}

// However many jobs are added at once, a tenant's texts keep to their limit, whatever comes of them.
func TestTextsForPeopleAreBounded(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		moderate(t, s, "job_0", "acme", 5, 1, 2)
		var group sync.WaitGroup
		refused := make(chan error, 8)
		for i := range 8 {
			group.Go(func() {
				if err := s.AddAsyncJob(t.Context(), "acme", moderationOf(fmt.Sprint("job_a", i), "acme", 3), BatchLimits{Reviews: 11}, nil); err != nil {
					refused <- err
				}
			})
		}
		group.Wait()
		if full, is := errors.AsType[ErrBatchLimit](<-refused); len(refused) != 4 || !is || full.Used.Reviews != 11 {
			t.Errorf("%d more of 8 were refused, %+v", len(refused), full)
		}
		checkCounted(t, s, "acme", 11)
		if err := s.AddAsyncJob(t.Context(), "acme", asyncOf("job_b", "acme"), BatchLimits{Reviews: 11}, nil); err != nil {
			t.Errorf("a job that asks nobody: %v", err)
		}
		if err := s.AddAsyncJob(t.Context(), "globex", moderationOf("job_c", "globex", 3), BatchLimits{Reviews: 11}, nil); err != nil {
			t.Errorf("another tenant's: %v", err)
		}
	})
}

// What people are to be shown is bounded by its bytes: all of a job's, until the last of its texts is decided.
func TestBytesForPeopleAreBounded(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		moderate(t, s, "job_0", "acme", 3, 1, 2)
		most := BatchLimits{ReviewBytes: 106} // 7 wait, and a job has 100
		add := func(id string) error {
			return s.AddAsyncJob(t.Context(), "acme", moderationOf(id, "acme", 1), most, nil)
		}
		for _, review := range []string{"modrev_0_00001", "modrev_0_00002"} {
			if full, is := errors.AsType[ErrBatchLimit](add("job_1")); !is || full.Used.ReviewBytes != 7 {
				t.Errorf("before %s is decided: %+v", review, full)
			}
			if _, err := decide(t, s, "acme", review, "passed", "key"); err != nil {
				t.Fatal(err)
			}
		}
		if err := add("job_1"); err != nil {
			t.Errorf("all is decided: %v", err)
		}
		if err := add("job_2"); err == nil {
			t.Error("another one is accepted, beside the body of one that has not ended")
		}
		if err := s.AddAsyncJob(t.Context(), "acme", asyncOf("job_3", "acme"), most, nil); err != nil {
			t.Errorf("a job that asks nobody: %v", err)
		}
		checkCounted(t, s, "acme", 1)
	})
}

// Of two who decide the last two texts of a job at once, one has its bytes count no more.
func TestTheLastDecisionsAtOnceAreCounted(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		const jobs = 20
		for i := range jobs {
			moderate(t, s, fmt.Sprint("job_", i), "acme", 2, 0, 1)
		}
		for i := range jobs {
			var group sync.WaitGroup
			for input := range 2 {
				group.Go(func() {
					if _, err := decide(t, s, "acme", ReviewID(fmt.Sprint("job_", i), input), "passed", "key"); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
		}
		checkCounted(t, s, "acme", 0)
	})
}

func decide(t *testing.T, s *Store, tenant, id, decision, by string) (Review, error) {
	t.Helper()
	return s.DecideReview(t.Context(), tenant, id, Decision{Decision: decision, Note: "of " + by, By: by, Data: `{"by":"` + by + `"}`}, created.Add(time.Minute), forgetAt)
}

// Of those that decide at once one does, and is told of; the others have that as their answer.
func TestOneOfThoseThatDecideAtOnceDoes(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		addHook(t, s, "acme", hookOf(1, EventModerationDecided))
		moderate(t, s, "job_1", "acme", 1, 0)
		const people = 16
		var group sync.WaitGroup
		answers, errs := make([]Review, people), make([]error, people)
		for i := range people {
			group.Go(func() {
				answers[i], errs[i] = decide(t, s, "acme", "modrev_1_00000", []string{"passed", "flagged"}[i%2], fmt.Sprint("key", i))
			})
		}
		group.Wait()
		decided, err := s.FindReview(t.Context(), "acme", "modrev_1_00000", created)
		if err != nil || decided.Decision == "" || decided.Note != "of "+decided.DecidedBy || !decided.Decided.Equal(created.Add(time.Minute)) || !decided.Forgotten.Equal(forgetAt) {
			t.Errorf("%+v, %v", decided, err)
		}
		for i, answer := range answers {
			otherwise := decided.Decision != []string{"passed", "flagged"}[i%2]
			if answer != decided || errors.Is(errs[i], ErrDecided) != otherwise || (errs[i] != nil) != otherwise {
				t.Errorf("%+v, %v", answer, errs[i])
			}
		}
		want := `[moderation.decided modrev_1_00000 {"by":"` + decided.DecidedBy + `"}]`
		if events := fmt.Sprint(told(t, s)); events != want {
			t.Errorf("%s, want %s", events, want)
		}
		checkCounted(t, s, "acme", 0)
	})
}

// Nobody sees another's review, or decides it; and lists have what they say, oldest first.
func TestReviewsAreTheirTenants(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		moderate(t, s, "job_1", "acme", 3, 0, 1, 2)
		moderate(t, s, "job_2", "globex", 1, 0)
		_, findErr := s.FindReview(t.Context(), "globex", "modrev_1_00000", created)
		_, decideErr := decide(t, s, "globex", "modrev_1_00000", "passed", "key")
		for what, err := range map[string]error{"find": findErr, "decide": decideErr} {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := decide(t, s, "acme", "modrev_1_00001", "passed", "key"); err != nil {
			t.Fatal(err)
		}
		for _, list := range []struct {
			tenant string
			status ReviewStatus
			after  string
			want   string
		}{
			{"globex", AnyReview, "", "[modrev_2_00000]"}, {"acme", AnyReview, "", "[modrev_1_00000 modrev_1_00001 modrev_1_00002]"},
			{"acme", PendingReview, "", "[modrev_1_00000 modrev_1_00002]"}, {"acme", PendingReview, "modrev_1_00000", "[modrev_1_00002]"},
			{"acme", DecidedReview, "", "[modrev_1_00001]"}, {"acme", DecidedReview, "modrev_1_00001", "[]"},
		} {
			if ids := fmt.Sprint(reviews(t, s, list.tenant, list.status, list.after)); ids != list.want {
				t.Errorf("%+v: %s", list, ids)
			}
		}
		checkCounted(t, s, "acme", 2)
		checkCounted(t, s, "globex", 1)
	})
}

// What nobody decided outlives its job, and is removed at its time, as is what was decided at another one.
func TestReviewsAreForgotten(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		moderate(t, s, "job_1", "acme", 3, 0, 1, 2)
		moderate(t, s, "job_2", "globex", 1, 0)
		if _, err := decide(t, s, "acme", "modrev_1_00000", "flagged", "key"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.ForgetAsyncJobs(t.Context(), forgetAt, 10); err != nil {
			t.Fatal(err)
		}
		late := forgetAt.Add(time.Hour)
		for _, step := range []struct {
			at                    time.Time
			forgotten, left, acme int
		}{{forgetAt.Add(-time.Second), 0, 4, 2}, {forgetAt, 1, 3, 2}, {late, 2, 1, -1}, {late, 1, 0, 0}, {late, 0, 0, 0}} {
			if forgotten, err := s.ForgetReviews(t.Context(), step.at, 2); forgotten != step.forgotten || err != nil {
				t.Errorf("at %v %d are forgotten, %v", step.at, forgotten, err)
			}
			if left := s.Count(t, `SELECT count(*) FROM moderation_review`); left != step.left {
				t.Errorf("at %v %d are left", step.at, left)
			}
			if step.acme >= 0 {
				checkCounted(t, s, "acme", step.acme)
			}
		}
		checkCounted(t, s, "globex", 0)
		if named, err := s.BlobReferenced(t.Context(), hashOf("content")); err != nil || named {
			t.Errorf("the texts are kept: %v", err)
		}
		if _, err := s.FindReview(t.Context(), "acme", "modrev_1_00001", late); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	})
}

// A review whose time is over is not found, and cannot be decided, before it is removed.
func TestAReviewWhoseTimeIsOver(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		moderate(t, s, "job_1", "acme", 1, 0)
		late := forgetAt.Add(time.Hour)
		_, findErr := s.FindReview(t.Context(), "acme", "modrev_1_00000", late)
		_, decideErr := s.DecideReview(t.Context(), "acme", "modrev_1_00000", Decision{Decision: "passed"}, late, late.Add(time.Hour))
		if !errors.Is(findErr, ErrNotFound) || !errors.Is(decideErr, ErrNotFound) {
			t.Errorf("%v, %v", findErr, decideErr)
		}
		if page, err := s.ReviewsPage(t.Context(), "acme", AnyReview, "", 10, late); err != nil || len(page) != 0 {
			t.Errorf("%+v, %v", page, err)
		}
		checkCounted(t, s, "acme", 1)
	})
}
