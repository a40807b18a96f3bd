package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"triptych.dev/gateway/internal/batch"
	"triptych.dev/gateway/internal/charge"
	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/jobs"
	"triptych.dev/gateway/internal/openai"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/testkit"
)

// keepJobs of which nothing is run before runJobs.
func (g *gateway) keepJobs(kept *files.Files, logger *slog.Logger) *jobs.Jobs {
	decoder := &openai.Decoder{ModerationModel: testkit.ModerationModelName}
	return jobs.New(jobs.Options{
		Store: g.records, Files: kept, Turns: batch.NewTurns(g.records), Workers: 2, MaxOpen: 100, Window: time.Hour, Kept: time.Hour, Now: time.Now, Logger: logger,
		TextsOf: decoder.ModerationTexts, MaxReviews: 8, MaxReviewBytes: 1 << 20, ReviewKept: 2 * time.Hour,
		Charges: charge.New(g.records, quota.NewLimiter(quota.NewMemory(time.Now, time.Minute), time.Now), logger),
		PlanOf: func(string, string) (identity.Plan, bool) {
			return identity.Plan{Tenant: identity.ClassLimits{{RequestsPerMinute: 1000}, {RequestsPerMinute: 1000}}}, true
		},
	})
}

// runJobs runs them until stop is called, or the test's end.
func (g *gateway) runJobs() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		g.Jobs.Watch(ctx, func(ctx context.Context, request batch.Request) batch.Reply {
			executed := g.Execute(ctx, Execution{
				Principal: request.Principal, Class: quota.Batch, RequestID: request.ID, Endpoint: request.Endpoint, Body: request.Body,
			})
			return batch.Reply{Status: executed.Status, Body: executed.Body, Failure: executed.Failure, NoRoom: executed.NoRoom()}
		})
	})
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	g.Cleanup(stop)
	return stop
}

type jobReply struct {
	ID, Object, Endpoint, Model, Status string
	Metadata                            map[string]string
	CreatedAt                           int64  `json:"created_at"`
	ExpiresAt                           int64  `json:"expires_at"`
	EndedAt                             *int64 `json:"ended_at"`
	KeptUntil                           *int64 `json:"kept_until"`
	Response                            *struct {
		StatusCode int    `json:"status_code"`
		RequestID  string `json:"request_id"`
		Body       json.RawMessage
	}
	Error *struct{ Code, Message string }
	Usage map[string]any
}

func (g *gateway) readJob(got reply, status int) (read jobReply) {
	g.Helper()
	if err := json.Unmarshal(got.body, &read); err != nil || got.status != status {
		g.Fatalf("%d %s", got.status, got.body)
	}
	return read
}

const oneJob = `{"endpoint":"/v1/embeddings","body":` + oneText + `,"metadata":{"a":"b"}}`

func (g *gateway) job(tenant string) jobReply {
	g.Helper()
	return g.readJob(g.postAs(tenant, jobsRoute, oneJob), http.StatusAccepted)
}

func TestAJobsLifeOverHTTP(t *testing.T) {
	g := startGateway(t)
	got := g.post(jobsRoute, oneJob, keyHeader, "k")
	created := g.readJob(got, http.StatusAccepted)
	if created.Object != "job" || created.Status != "queued" || created.Endpoint != "/v1/embeddings" || created.Model != testkit.ModelName || created.Metadata["a"] != "b" ||
		created.ExpiresAt-created.CreatedAt != 3600 || created.EndedAt != nil || created.KeptUntil != nil || created.Response != nil || created.Error != nil ||
		got.header.Get("Location") != jobsRoute+"/"+created.ID {
		t.Errorf("%s %v", got.body, got.header)
	}
	again := g.post(jobsRoute, oneJob, keyHeader, "k")
	if g.checkReplay("repeated", again, got); again.header.Get("Location") != got.header.Get("Location") {
		t.Errorf("%v", again.header)
	}
	g.checkReused(g.post(jobsRoute, strings.Replace(oneJob, `"b"`, `"c"`, 1), keyHeader, "k"), `"metadata"`)
	waiting := make(chan reply, 1)
	go func() { waiting <- g.get(jobsRoute + "/" + created.ID + "?wait=60") }()
	g.eventually("a request that waits", func() bool { return g.waits.Used() == 1 })
	g.runJobs()
	done := g.readJob(<-waiting, http.StatusOK)
	direct := g.post("/v1/embeddings", oneText)
	if done.Status != "completed" || done.Response == nil || done.Response.StatusCode != 200 || done.Response.RequestID != created.ID ||
		string(done.Response.Body) != string(direct.body) || *done.KeptUntil-*done.EndedAt != 3600 {
		t.Errorf("%+v, and at once %s", done, direct.body)
	}
	g.checkReplay("after its end", g.post(jobsRoute, oneJob, keyHeader, "k"), got)
	for _, ask := range []reply{
		g.ask("metered", http.MethodGet, jobsRoute+"/"+created.ID), g.ask("metered", http.MethodGet, jobsRoute+"/"+created.ID+"?wait=1"),
		g.postAs("metered", jobsRoute+"/"+created.ID+"/cancel", ""), g.get(jobsRoute + "/" + created.ID[:10]), g.get(jobsRoute + "/job_%00"),
	} {
		if ask.status != http.StatusNotFound || ask.err.Code != "job_not_found" {
			t.Errorf("another one's, or none: %d %s", ask.status, ask.body)
		}
	}
	if got := g.post(jobsRoute+"/"+created.ID+"/cancel", ""); got.err.Code != "job_ended" {
		t.Errorf("%d %s", got.status, got.body)
	}
	if g.waits.Used() != 0 {
		t.Errorf("%d wait", g.waits.Used())
	}
}

func TestJobsAreListed(t *testing.T) {
	g := startGateway(t)
	first, second := g.job("acme"), g.job("acme")
	g.job("metered")
	if cancelled := g.readJob(g.post(jobsRoute+"/"+first.ID+"/cancel", ""), http.StatusOK); cancelled.Status != "cancelled" || cancelled.Error.Code != "job_cancelled" {
		t.Errorf("%+v", cancelled)
	}
	for path, want := range map[string]string{"": second.ID + first.ID, "?limit=1": second.ID, "?after=" + second.ID: first.ID, "?after=" + first.ID: ""} {
		var list struct {
			Data    []jobReply
			HasMore bool `json:"has_more"`
		}
		got, ids := g.get(jobsRoute+path), ""
		if err := json.Unmarshal(got.body, &list); err != nil {
			t.Fatal(err)
		}
		for _, one := range list.Data {
			ids += one.ID
		}
		if ids != want || list.HasMore != (path == "?limit=1") {
			t.Errorf("%q: %s", path, got.body)
		}
	}
}

// What the endpoint would refuse before it asks a model is refused at once, by the same code.
func TestAJobThatCannotBeIsRefused(t *testing.T) {
	g := startGateway(t)
	for _, test := range []struct{ part, other, param string }{
		{`"/v1/embeddings"`, `"/v1/jobs"`, "endpoint"}, {`"/v1/embeddings"`, `"/v1/files"`, "endpoint"}, {`"endpoint":"/v1/embeddings",`, ``, "endpoint"},
		{oneText, `[]`, "body"}, {`,"body":` + oneText, ``, "body"}, {`"input":"a"`, `"input":7`, "body.input"}, {`"input":"a"`, `"more":1,"input":"a"`, "body.more"},
		{`,"input":"a"`, ``, "body.input"}, {`"a":"b"`, `"a":1`, "metadata"}, {`}}`, `},"priority":"interactive"}`, "priority"},
	} {
		got := g.post(jobsRoute, strings.Replace(oneJob, test.part, test.other, 1))
		if got.status != http.StatusBadRequest || got.err.Param == nil || *got.err.Param != test.param {
			t.Errorf("%.60s: %d %s", test.other, got.status, got.body)
		}
	}
	g.checkStored(0)
	g.hotpath.SetEmbed(answer(fmt.Errorf("it was run")))
	g.job("acme")
}

// A key that may create jobs may not do by them what it may not do itself.
func TestAJobHasTheScopesOfItsKey(t *testing.T) {
	scopes := identity.Scopes{Endpoints: []string{jobsRoute, "/v1/embeddings"}, Models: []string{testkit.ModelName}}
	g := startGateway(t, func(_ *engine.Options, o *Options) {
		o.Authenticator = someone{Tenant: "acme", KeyID: "key", Scopes: scopes, Plan: identity.Plan{Tenant: identity.ClassLimits{{RequestsPerMinute: 1000}}}}
	})
	g.readJob(g.post(jobsRoute, oneJob), http.StatusAccepted)
	for body, scope := range map[string]string{
		strings.Replace(oneJob, testkit.ModelName, "another", 1):                               "model:another",
		`{"endpoint":"/v1/moderations","body":{"input":"a"}}`:                                  "endpoint:/v1/moderations",
		`{"endpoint":"/v1/tokenize","body":{"input":"a","model":"` + testkit.ModelName + `"}}`: "endpoint:/v1/tokenize",
	} {
		if got := g.post(jobsRoute, body); got.status != http.StatusForbidden || !strings.Contains(got.err.Message, `"`+scope+`"`) {
			t.Errorf("%s: %d %s", scope, got.status, got.body)
		}
	}
}

// Who waits takes no slot from those who are served, is bounded, and is told when the gateway drains.
func TestWhoWaitsForAJobKeepsNobodyFromBeingServed(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.MaxInflight = 1 })
	job := g.job("acme")
	waiting := make(chan reply, 4)
	for range cap(waiting) {
		go func() { waiting <- g.get(jobsRoute + "/" + job.ID + "?wait=60") }()
	}
	g.eventually("requests that wait", func() bool { return g.waits.Used() == int64(cap(waiting)) })
	g.stillServes()
	if got := g.get(jobsRoute + "/" + job.ID + "?wait=0"); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
	start := time.Now()
	if got := g.get(jobsRoute + "/" + job.ID + "?wait=1"); got.status != http.StatusOK || time.Since(start) < 900*time.Millisecond {
		t.Errorf("%d %s after %v", got.status, got.body, time.Since(start))
	}
	g.Drain()
	for range cap(waiting) {
		got := <-waiting
		if got.status == http.StatusServiceUnavailable { // of those that all end now, one is served at once here
			continue
		}
		if read := g.readJob(got, http.StatusOK); read.Status != "queued" {
			t.Errorf("%+v", read)
		}
	}
	for g.waits.TryAcquire("acme", 1) { // as many as a tenant may have
	}
	if got := g.get(jobsRoute + "/" + job.ID + "?wait=1"); got.status != http.StatusServiceUnavailable || got.err.Code != "queue_full" {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestWhereNoFilesAreKeptThereAreNoJobs(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.Jobs = nil })
	if got := g.get(jobsRoute); got.err.Code != "not_enabled" || !strings.Contains(got.err.Message, "blobs") {
		t.Errorf("%d %s", got.status, got.body)
	}
}
