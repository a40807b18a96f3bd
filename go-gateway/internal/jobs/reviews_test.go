package jobs

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/batch"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/moderation"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/testkit"
)

func textsOf(body []byte) ([]string, error) {
	var request struct{ Input []string }
	err := json.Unmarshal(body, &request)
	return request.Input, err
}

// mustModerate creates a job of two texts.
func (f *fixture) mustModerate() string {
	f.Helper()
	asked := Asked{
		Endpoint: "/v1/moderations", Body: []byte(`{"input":["doubtful","clear"]}`), Metadata: `{"a":"b"}`, Thresholds: &moderation.Thresholds{Review: 0.4, Flagged: 0.8},
	}
	job, err := f.Create(f.Context(), acme, asked, func(store.AsyncJob) (*store.Answer, error) { return nil, nil })
	if err != nil {
		f.Fatal(err)
	}
	return job.ID
}

func judgedReply(context.Context, batch.Request) batch.Reply {
	return batch.Reply{Status: 200, Tokens: store.BatchTokens{Input: 3}, Body: []byte(`{"results":[{"category_scores":{"hate":0.5}},{"category_scores":{"hate":0.1}}]}`)}
}

// unaudited is an act that nobody looks at.
func unaudited(store.Job) store.AuditEntry { return store.AuditEntry{} }

// What nobody has decided is kept longer than its job, with its text; what was decided, as long as a job.
func TestAReviewOutlivesItsJob(t *testing.T) {
	f := newFixture(t)
	first, second := f.mustModerate(), f.mustModerate()
	stop := f.watch(judgedReply)
	for _, id := range []string{first, second} {
		if job, _ := f.ended(id); job.Verdict != "review" || job.State != store.AsyncCompleted {
			t.Errorf("%+v", job)
		}
	}
	stop()
	review := func(job string) (Review, error) { return f.FindReview(t.Context(), "acme", store.ReviewID(job, 0)) }
	at := func(late time.Duration) { // as far as the gateway's clock is ahead
		f.late.Store(int64(late))
		f.watchTime(t.Context())
		f.watchReviews(t.Context())
	}
	at(2 * time.Hour)
	if _, err := f.Find(t.Context(), "acme", first); fault.Of(err).Reason != fault.JobNotFound {
		t.Errorf("the job is found after its time: %v", err)
	}
	found, err := review(first)
	if err != nil || found.Text.Text != "doubtful" || string(found.Text.Scores) != `{"hate":0.5}` || string(found.Metadata) != `{"a":"b"}` || found.Score != "0.5" {
		t.Errorf("%+v, %v", found, err)
	}
	if decided, err := f.Decide(t.Context(), acme, store.ReviewID(first, 0), Decision{moderation.Passed, "fine"}); err != nil || decided.DecidedBy != "key" || decided.Text.Text != "doubtful" {
		t.Errorf("%+v, %v", decided, err)
	}
	var waiting int
	f.Waiting = func(reviews int, _ time.Time) { waiting = reviews }
	at(170 * time.Minute)
	if _, err := review(first); err != nil || waiting != 1 {
		t.Errorf("%v, %d wait", err, waiting)
	}
	at(181 * time.Minute)
	for _, id := range []string{first, second} {
		if _, err := review(id); fault.Of(err).Reason != fault.ReviewNotFound {
			t.Errorf("it is found after its time: %v", err)
		}
	}
	if waiting != 0 {
		t.Errorf("%d wait", waiting)
	}
}

// A tenant's texts for people have as many bytes as they may, and no more.
func TestTextsForPeopleAreBoundedByTheirBytes(t *testing.T) {
	f := newFixture(t)
	asked := Asked{Endpoint: "/v1/moderations", Body: []byte(`{"input":["doubtful","clear"]}`), Thresholds: &moderation.Thresholds{Review: 0.4, Flagged: 0.8}}
	f.MaxReviewBytes = int64(2*len(asked.Body)) - 1
	create := func() error {
		_, err := f.Create(t.Context(), acme, asked, func(store.AsyncJob) (*store.Answer, error) { return nil, nil })
		return err
	}
	if err := create(); err != nil {
		t.Fatal(err)
	}
	if err := create(); fault.Of(err).Reason != fault.StorageLimited || !strings.Contains(err.Error(), "may have 59 bytes; there are 30, and this job has 30") {
		t.Errorf("got %v", err)
	}
}

// A reply that cannot be read is a fault of ours: the job is tried again, and has failed then, without a verdict or a charge.
func TestAReplyThatCannotBeJudgedFailsItsJob(t *testing.T) {
	f := newFixture(t)
	id := f.mustModerate()
	w := &worker{f.Jobs, good}
	for attempt := range maxAttempts {
		jobs, err := f.Store.ClaimJobs(t.Context(), store.AsyncQueue, "me", 1, time.Minute)
		if err != nil || len(jobs) != 1 {
			t.Fatal(jobs, err)
		}
		if err = w.handle(t.Context(), jobs[0]); (err == nil) != (attempt == maxAttempts-1) {
			t.Fatalf("attempt %d: %v", attempt, err)
		}
		if err == nil {
			break
		}
		jobs[0].Errors++
		if err := f.Store.RetryJob(t.Context(), jobs[0], 0, err.Error()); err != nil { // as the queue does
			t.Fatal(err)
		}
		if _, err := f.Store.SweepJobs(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if job, reply := f.ended(id); job.State != store.AsyncFailed || job.Result.ErrorCode != "internal_error" || job.Verdict != "" || reply != "" || job.Result.Tokens.Input != 0 {
		t.Errorf("%+v, %s", job, reply)
	}
	if charges, err := f.Store.UnsettledCharges(t.Context(), 10); err != nil || len(charges) != 0 {
		t.Errorf("%+v, %v", charges, err)
	}
	dead, err := f.Store.JobsPage(t.Context(), store.JobsPage{Tenant: "acme", State: store.JobDead, Most: 10})
	if err != nil || len(dead) != 1 || !strings.Contains(dead[0].Error, "0 results for 2 texts") {
		t.Errorf("%+v, %v", dead, err)
	}
	if _, err := f.Store.ReplayDead(t.Context(), id, unaudited); err != nil {
		t.Fatal(err)
	}
	f.watch(judgedReply)
	if job, _ := f.ended(id); job.State != store.AsyncCompleted || job.Verdict != "review" {
		t.Errorf("%+v", job)
	}
}

func TestReviewsThatCannotBeCountedAreToldOnce(t *testing.T) {
	f, log := newFixture(t), &testkit.Log{}
	f.Logger = slog.New(slog.NewTextHandler(log, nil))
	if err := f.Store.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		f.watchReviews(t.Context())
	}
	if n := strings.Count(log.String(), "reviews could not be counted"); n != 1 {
		t.Errorf("told %d times: %s", n, log)
	}
}
