package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/identity"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/testkit"
)

type judgedJob struct {
	ID, Status string
	Verdict    *string
	Verdicts   []struct {
		Index             int
		Verdict, Category string
		Score             float64
		ReviewID          string `json:"review_id"`
	}
	Thresholds map[string]float64
	Error      *struct{ Code, Message string }
}

type reviewReply struct {
	ID, Object, Status, Category string
	JobID                        string `json:"job_id"`
	Index                        int
	Score                        float64
	Thresholds                   map[string]float64
	Text, Decision, Note         *string
	DecidedBy                    *string `json:"decided_by"`
	DecidedAt                    *int64  `json:"decided_at"`
	CreatedAt                    int64   `json:"created_at"`
	KeptUntil                    int64   `json:"kept_until"`
	Metadata                     map[string]string
}

// Of the fake's scores one "hate" is 0.5, and "kill" three times 0.75.
const threeTexts = `{"endpoint":"/v1/moderations","thresholds":{"review":0.4,"flagged":0.7},"metadata":{"row":"17"},
	"body":{"input":["some hate","kind words","kill kill kill of hate"]}}`

// moderated has a job run to its end.
func (g *gateway) moderated(tenant, body string) (job judgedJob) {
	g.Helper()
	id := g.created(tenant, jobsRoute, body)
	defer g.runJobs()()
	got := g.ask(tenant, http.MethodGet, jobsRoute+"/"+id+"?wait=60")
	if err := json.Unmarshal(got.body, &job); err != nil || job.Status == "queued" {
		g.Fatalf("%d %s", got.status, got.body)
	}
	return job
}

// reviewed is a job of one text that waits for people.
func (g *gateway) reviewed(tenant string) judgedJob {
	g.Helper()
	return g.moderated(tenant, `{"endpoint":"/v1/moderations","thresholds":{"review":0.4,"flagged":0.7},"body":{"input":"some hate"}}`)
}

func (g *gateway) review(got reply) (read reviewReply) {
	g.Helper()
	if err := json.Unmarshal(got.body, &read); err != nil || got.status != http.StatusOK {
		g.Fatalf("%d %s", got.status, got.body)
	}
	return read
}

// reviews lists the indexes of texts, and whether more follow.
func (g *gateway) reviews(query string) (indexes string, more bool) {
	g.Helper()
	var list struct {
		Data    []reviewReply
		HasMore bool `json:"has_more"`
	}
	got := g.get(reviewsRoute + query)
	if err := json.Unmarshal(got.body, &list); err != nil || got.status != http.StatusOK {
		g.Fatalf("%d %s", got.status, got.body)
	}
	for _, one := range list.Data {
		if one.Text != nil || one.Metadata != nil {
			g.Errorf("a list has texts: %s", got.body)
		}
		indexes += fmt.Sprint(one.Index)
	}
	return indexes, list.HasMore
}

func TestATextBetweenTheThresholdsIsForPeople(t *testing.T) {
	g := startGateway(t)
	job := g.moderated("acme", threeTexts)
	if job.Status != "completed" || *job.Verdict != "flagged" || len(job.Verdicts) != 3 || job.Thresholds["review"] != 0.4 || job.Thresholds["flagged"] != 0.7 {
		t.Fatalf("%+v", job)
	}
	for i, want := range []string{"review hate 0.5 modrev_" + job.ID[4:] + "_00000", "passed hate 0 ", "flagged violence 0.75 "} {
		one := job.Verdicts[i]
		if got := fmt.Sprintf("%s %s %v %s", one.Verdict, one.Category, one.Score, one.ReviewID); got != want || one.Index != i {
			t.Errorf("%d: %s, want %s", i, got, want)
		}
	}
	if list := g.get(jobsRoute).body; !strings.Contains(string(list), `"verdict":"flagged"`) || strings.Contains(string(list), `"verdicts"`) {
		t.Errorf("%s", list)
	}
	path := reviewsRoute + "/" + job.Verdicts[0].ReviewID
	review := g.review(g.get(path))
	if review.Object != "moderation_review" || review.JobID != job.ID || review.Status != "pending" || *review.Text != "some hate" || review.Category != "hate" ||
		review.Score != 0.5 || review.Thresholds["review"] != 0.4 || review.Metadata["row"] != "17" || review.Decision != nil || review.DecidedAt != nil ||
		review.KeptUntil-review.CreatedAt != 7200 || !strings.Contains(string(g.get(path).body), `"category_scores":{"harassment":0.0`) {
		t.Errorf("%+v", review)
	}
	got := g.post(path, `{"decision":"flagged","note":"it is meant"}`)
	decided := g.review(got)
	if decided.Status != "decided" || *decided.Decision != "flagged" || *decided.Note != "it is meant" || *decided.DecidedBy == "" || *decided.Text != "some hate" ||
		decided.KeptUntil-*decided.DecidedAt != 3600 {
		t.Errorf("%+v", decided)
	}
	if again := g.post(path, `{"decision":"flagged","note":"another"}`); string(again.body) != string(got.body) || again.status != http.StatusOK {
		t.Errorf("repeated: %d %s", again.status, again.body)
	}
	if otherwise := g.post(path, `{"decision":"passed"}`); otherwise.status != http.StatusConflict || otherwise.err.Code != "review_decided" ||
		!strings.Contains(otherwise.err.Message, *decided.DecidedBy) || !strings.Contains(otherwise.err.Message, `"flagged"`) || otherwise.header.Get("x-should-retry") != "false" {
		t.Errorf("%d %s", otherwise.status, otherwise.body)
	}
	for _, words := range []string{"some hate", "it is meant", "kind words"} {
		g.checkNotLogged(words)
	}
}

func TestReviewsAreListedOldestFirst(t *testing.T) {
	g := startGateway(t)
	job := g.moderated("acme", strings.Replace(threeTexts, `"kind words","kill kill kill of hate"`, `"hate","hate"`, 1))
	g.reviewed("other")
	id := func(i int) string { return job.Verdicts[i].ReviewID }
	g.review(g.post(reviewsRoute+"/"+id(1), `{"decision":"passed"}`))
	for query, want := range map[string]string{
		"": "012", "?status=pending": "02", "?status=decided": "1", "?limit=1": "0+", "?after=" + id(0): "12", "?after=" + id(0) + "&status=pending": "2",
		"?limit=1&status=pending": "0+", "?limit=1&status=decided": "1", "?after=" + id(2): "",
	} {
		got, more := g.reviews(query)
		if more {
			got += "+"
		}
		if got != want {
			t.Errorf("%q: %s, want %s", query, got, want)
		}
	}
	for query, param := range map[string]string{
		"?status=open": "status", "?status=": "status", "?after=modrev_1": "after", "?after=" + job.ID: "after", "?after=%00": "after", "?limit=101": "limit", "?order=asc": "order",
	} {
		if got := g.get(reviewsRoute + query); got.status != http.StatusBadRequest || got.err.Param == nil || *got.err.Param != param {
			t.Errorf("%q: %d %s", query, got.status, got.body)
		}
	}
}

func TestWhatIsNoDecisionIsRefused(t *testing.T) {
	g := startGateway(t)
	path := reviewsRoute + "/" + g.reviewed("acme").Verdicts[0].ReviewID
	for body, param := range map[string]string{
		`{}`: "decision", `{"decision":"review"}`: "decision", `{"decision":1}`: "decision", `{"decision":"passed","note":7}`: "note", `{"decision":"passed","by":"me"}`: "by",
		`{"decision":"passed","note":"` + strings.Repeat("ä", 501) + `"}`: "note", `{"decision":"passed","note":"a\u0000b"}`: "note",
	} {
		if got := g.post(path, body); got.status != http.StatusBadRequest || got.err.Param == nil || *got.err.Param != param {
			t.Errorf("%.60s: %d %s", body, got.status, got.body)
		}
	}
	if indexes, _ := g.reviews("?status=pending"); indexes != "0" {
		t.Errorf("one of them has decided: %s", indexes)
	}
	if got := g.review(g.post(path, `{"decision":"passed","note":"`+strings.Repeat("ä", 500)+`"}`)); len(*got.Note) != 1000 {
		t.Errorf("%+v", got)
	}
}

// Of two who decide at once one does; the other is told.
func TestTwoWhoDecideAtOnce(t *testing.T) {
	g := startGateway(t)
	path := reviewsRoute + "/" + g.reviewed("acme").Verdicts[0].ReviewID
	var deciding sync.WaitGroup
	got := make([]reply, 8)
	for i := range got {
		deciding.Go(func() { got[i] = g.post(path, fmt.Sprintf(`{"decision":%q}`, []string{"passed", "flagged"}[i%2])) })
	}
	deciding.Wait()
	decided := g.review(g.get(path))
	for i, one := range got {
		if agrees := *decided.Decision == []string{"passed", "flagged"}[i%2]; (one.status == http.StatusOK) != agrees || (one.status == http.StatusConflict) == agrees {
			t.Errorf("%q: %d %s", *decided.Decision, one.status, one.body)
		}
	}
}

func TestThresholdsThatCannotBeAreRefused(t *testing.T) {
	g := startGateway(t)
	const usual = `{"review":0.4,"flagged":0.7}`
	for thresholds, param := range map[string]string{
		`{}`: "thresholds.review", `{"review":0.4}`: "thresholds.flagged", `{"flagged":0.4}`: "thresholds.review", `{"review":null,"flagged":0.4}`: "thresholds.review",
		`{"review":0.8,"flagged":0.7}`: "thresholds.review", `{"review":-0.1,"flagged":0.7}`: "thresholds.review", `{"review":0,"flagged":1.1}`: "thresholds.flagged",
		`{"review":"0.4","flagged":0.7}`: "thresholds.review", `{"review":0,"flagged":1e999}`: "thresholds.flagged", `[0.4,0.7]`: "thresholds", `0.5`: "thresholds",
		`{"review":0.4,"flagged":0.7,"more":1}`: "thresholds.more",
	} {
		got := g.post(jobsRoute, strings.Replace(threeTexts, `{"review":0.4,"flagged":0.7}`, thresholds, 1))
		if got.status != http.StatusBadRequest || got.err.Param == nil || *got.err.Param != param {
			t.Errorf("%s: %d %s", thresholds, got.status, got.body)
		}
	}
	if got := g.post(jobsRoute, strings.Replace(threeTexts, usual, `{"review":NaN,"flagged":1}`, 1)); got.err.Code != "invalid_json" {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := g.post(jobsRoute, strings.Replace(oneJob, `"metadata"`, `"thresholds":`+usual+`,"metadata"`, 1)); got.status != http.StatusBadRequest || *got.err.Param != "thresholds" {
		t.Errorf("of another endpoint: %d %s", got.status, got.body)
	}
	if job := g.moderated("acme", strings.Replace(threeTexts, usual, `{"review":0.5,"flagged":0.5}`, 1)); job.Verdicts[0].Verdict != "flagged" || job.Verdicts[1].Verdict != "passed" {
		t.Errorf("equal: %+v", job)
	}
}

// What is reserved for the texts of a job that has not ended, and what waits, count together.
func TestTextsForPeopleHaveALimit(t *testing.T) {
	g := startGateway(t)
	job := g.moderated("acme", threeTexts) // one of 8
	for range 2 {                          // and 6 that may come to it
		g.created("acme", jobsRoute, threeTexts)
	}
	refused := g.post(jobsRoute, threeTexts)
	if refused.status != http.StatusTooManyRequests || refused.err.Code != "storage_limit_exceeded" || *refused.err.Param != "thresholds" ||
		!strings.Contains(refused.err.Message, "may have 8") || refused.header.Get("x-should-retry") != "false" {
		t.Errorf("%d %s", refused.status, refused.body)
	}
	g.created("acme", jobsRoute, oneJob)
	g.created("other", jobsRoute, threeTexts)
	g.review(g.post(reviewsRoute+"/"+job.Verdicts[0].ReviewID, `{"decision":"passed"}`))
	g.created("acme", jobsRoute, strings.Replace(threeTexts, `"some hate",`, ``, 1))
	if got := g.post(jobsRoute, threeTexts); got.status != http.StatusTooManyRequests {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// A job that comes to no verdict says so, and asks nobody.
func TestAModerationThatFailsHasNoVerdict(t *testing.T) {
	g := startGateway(t)
	for _, input := range []string{`[]`, `[""]`} {
		job := g.moderated("acme", `{"endpoint":"/v1/moderations","thresholds":{"review":0.4,"flagged":0.7},"body":{"input":`+input+`}}`)
		if job.Status != "failed" || job.Verdict != nil || job.Verdicts != nil {
			t.Errorf("%s: %+v", input, job)
		}
	}
	if indexes, _ := g.reviews(""); indexes != "" {
		t.Error(indexes)
	}
}

// Each head of a model with several says something: the worst verdict is by the category with the highest score among those of it.
func TestHeadsThatExceedThresholdsTogether(t *testing.T) {
	g := startGateway(t)
	g.hotpath.SetClassify(func(_ context.Context, request *inferencev1.ClassifyRequest) (*inferencev1.ClassifyResponse, error) {
		return &inferencev1.ClassifyResponse{
			Revision: testkit.ModelRevision,
			Labels: []*inferencev1.Label{
				{Name: "hate", Threshold: 0.5}, {Name: "violence", Threshold: 0.99}, {Name: "harassment", Threshold: 0.5, Advisory: true}, {Name: "own", Threshold: 0.5},
			},
			Classifications: []*inferencev1.Classification{
				{Scores: []float32{0.71, 0.9, 1, 0.5}}, {Scores: []float32{0.1, 0.2, 1, 0.5}}, {Scores: []float32{0.1, 0.2, 0.3, 0.5}},
			},
			TokenCounts: []uint32{1, 1, 1},
		}, nil
	})
	job := g.moderated("acme", threeTexts)
	for i, want := range []string{"flagged violence 0.9", "review harassment 1", "review own 0.5"} {
		if one := job.Verdicts[i]; fmt.Sprintf("%s %s %v", one.Verdict, one.Category, one.Score) != want {
			t.Errorf("%d: %+v, want %s", i, one, want)
		}
	}
}

// Who may moderate need not be who decides, nor the other way round.
func TestReviewsHaveAScopeOfTheirOwn(t *testing.T) {
	for _, test := range []struct {
		scopes          []string
		creates, judges int
	}{
		{[]string{jobsRoute, moderationsRoute}, http.StatusAccepted, http.StatusForbidden}, {[]string{reviewsRoute}, http.StatusForbidden, http.StatusNotFound},
		{[]string{jobsRoute}, http.StatusForbidden, http.StatusForbidden},
	} {
		g := startGateway(t, func(_ *engine.Options, o *Options) {
			o.Authenticator = someone{Tenant: "acme", KeyID: "key", Scopes: identity.Scopes{Endpoints: test.scopes}, Plan: identity.Plan{Tenant: identity.ClassLimits{{RequestsPerMinute: 1000}}}}
		})
		none := reviewsRoute + "/" + store.ReviewID("job_"+strings.Repeat("0", 32), 0)
		if created, judged := g.post(jobsRoute, threeTexts), g.post(none, `{"decision":"passed"}`); created.status != test.creates || judged.status != test.judges {
			t.Errorf("%v: %d %s, %d %s", test.scopes, created.status, created.body, judged.status, judged.body)
		}
	}
}
