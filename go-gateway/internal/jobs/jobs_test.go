package jobs

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"triptych.dev/gateway/internal/batch"
	"triptych.dev/gateway/internal/blob"
	"triptych.dev/gateway/internal/charge"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/store"
)

func TestMain(m *testing.M) {
	if os.Getenv(asWorker) != "" {
		work()
		return
	}
	// The connections of databases that were just closed end a moment later.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("database/sql.(*DB).connectionOpener"), goleak.Cleanup(func(status int) {
		postgres.Close()
		os.Exit(status)
	}))
}

const patience = 20 * time.Second

var acme = identity.Principal{Tenant: "acme", KeyID: "key", Plan: identity.Plan{Name: "plan", EnqueuedTokens: 1000}}

const body = `{"model":"m","input":"x"}`

// fixture has the jobs of a store of their own.
type fixture struct {
	*testing.T
	*Jobs
	late atomic.Int64 // by how much the clock is ahead
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	folder := t.TempDir()
	return open(t, store.Options{Data: filepath.Join(folder, "data")}, store.Gateway, filepath.Join(folder, "blobs"))
}

// open opens the jobs of a store, which is closed with the test.
func open(t *testing.T, options store.Options, role store.Role, blobs string) *fixture {
	t.Helper()
	kept, err := store.Open(t.Context(), options, role)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kept.Close() })
	f := &fixture{T: t}
	f.Jobs, err = jobsOf(kept, blobs, func() time.Time { return time.Now().Add(time.Duration(f.late.Load())) })
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func jobsOf(kept *store.Store, folder string, now func() time.Time) (*Jobs, error) {
	blobs, err := blob.OpenFolder(folder)
	if err != nil {
		return nil, err
	}
	logger := slog.New(slog.DiscardHandler)
	return New(Options{
		TextsOf: textsOf, MaxReviews: 500, MaxReviewBytes: 1 << 20, ReviewKept: 3 * time.Hour,
		Store: kept, Turns: batch.NewTurns(kept), Workers: 4, MaxOpen: 500, Window: time.Hour, Kept: time.Hour, Drain: 100 * time.Millisecond, Now: now, Logger: logger,
		Files:   files.New(files.Options{Store: kept, Blobs: blobs, MaxBytes: 1 << 30, MaxUploads: 4, Now: now, Logger: logger}),
		Charges: charge.New(kept, quota.NewLimiter(quota.NewMemory(time.Now, time.Minute), time.Now), logger),
		PlanOf:  func(string, string) (identity.Plan, bool) { return acme.Plan, true },
	}), nil
}

func (f *fixture) create() (store.AsyncJob, error) {
	f.Helper()
	asked := Asked{Endpoint: "/v1/embeddings", Body: []byte(body), Model: "m", Metadata: `{"a":"b"}`}
	return f.Create(f.Context(), acme, asked, func(store.AsyncJob) (*store.Answer, error) { return nil, nil })
}

func (f *fixture) mustCreate() string {
	f.Helper()
	job, err := f.create()
	if err != nil {
		f.Fatal(err)
	}
	return job.ID
}

// watch runs jobs until stop is called.
func (f *fixture) watch(execute batch.Execute) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { f.Turns.Watch(ctx) })
	watching.Go(func() { f.Watch(ctx, execute) })
	stop = sync.OnceFunc(func() {
		cancel()
		watching.Wait()
	})
	f.Cleanup(stop)
	return stop
}

func (f *fixture) find(id string) store.AsyncJob {
	f.Helper()
	job, err := f.Find(f.Context(), "acme", id)
	if err != nil {
		f.Fatal(err)
	}
	return job
}

// ended waits for a job's end, and returns it with its reply.
func (f *fixture) ended(id string) (store.AsyncJob, string) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	job, err := f.Await(ctx, "acme", id, nil)
	if err != nil || job.Ended.IsZero() {
		f.Fatalf("%+v, %v", job, err)
	}
	reply, err := f.Reply(&job)
	if err != nil {
		f.Fatal(err)
	}
	return job, string(reply)
}

func good(context.Context, batch.Request) batch.Reply {
	return batch.Reply{Status: 200, Body: []byte(`{"object":"list"}`), Tokens: store.BatchTokens{Input: 3}}
}

func refused(status int, reason fault.Reason, noRoom bool) batch.Reply {
	return batch.Reply{Status: status, Body: []byte(`{"error":{}}`), Failure: &fault.Fault{Reason: reason, Message: "no"}, NoRoom: noRoom}
}

func TestAJobIsRunAndItsReplyKept(t *testing.T) {
	f := newFixture(t)
	ids := []string{f.mustCreate(), f.mustCreate()}
	if job := f.find(ids[0]); job.State != store.AsyncQueued {
		t.Errorf("%+v", job)
	}
	f.watch(func(ctx context.Context, request batch.Request) batch.Reply {
		if request.Principal.Tenant != "acme" || request.Principal.KeyID != "key" || request.Endpoint != "/v1/embeddings" || string(request.Body) != body {
			t.Errorf("%+v", request)
		}
		if request.ID == ids[1] {
			return refused(400, fault.EmptyInput, false)
		}
		return good(ctx, request)
	})
	job, reply := f.ended(ids[0])
	if job.State != store.AsyncCompleted || job.Result.Status != 200 || reply != `{"object":"list"}` || job.Result.Tokens.Input != 3 {
		t.Errorf("%+v, %s", job, reply)
	}
	job, reply = f.ended(ids[1])
	if job.State != store.AsyncFailed || job.Result.Status != 400 || reply != `{"error":{}}` || job.Result.ErrorCode != "" {
		t.Errorf("%+v, %s", job, reply)
	}
	if dead, err := f.Store.JobsPage(t.Context(), store.JobsPage{State: store.JobDead, Most: 10}); err != nil || len(dead) != 0 {
		t.Errorf("a refusal is nothing for an operator: %+v, %v", dead, err)
	}
	f.late.Store(int64(2 * time.Hour))
	if _, err := f.Find(t.Context(), "acme", ids[0]); fault.Of(err).Reason != fault.JobNotFound {
		t.Errorf("it is found after its time: %v", err)
	}
}

// What there is no room for waits, and nothing is counted against it; a fault of ours is tried again, and given up at last.
func TestWhatFailsOnOurSideIsTriedAgain(t *testing.T) {
	f := newFixture(t)
	id := f.mustCreate()
	w := &worker{f.Jobs, nil}
	var replies []batch.Reply
	w.execute = func(context.Context, batch.Request) batch.Reply {
		reply := replies[0]
		replies = replies[1:]
		return reply
	}
	replies = append(replies, refused(503, fault.QueueFull, true))
	for range maxAttempts {
		replies = append(replies, refused(500, fault.Internal, false))
	}
	for attempt := range maxAttempts + 1 {
		jobs, err := f.Store.ClaimJobs(t.Context(), store.AsyncQueue, "me", 1, time.Minute)
		if err != nil || len(jobs) != 1 {
			t.Fatal(jobs, err)
		}
		err = w.handle(t.Context(), jobs[0])
		switch {
		case attempt == maxAttempts:
			if err != nil {
				t.Errorf("the last one: %v", err)
			}
			continue
		case err == nil:
			t.Fatal("it has ended")
		case attempt == 0:
			if fault.Of(err).Reason != fault.QueueFull {
				t.Error(err)
			}
		}
		if fault.Of(err).Reason == fault.Internal {
			jobs[0].Errors++
		}
		if err := f.Store.RetryJob(t.Context(), jobs[0], 0, err.Error()); err != nil { // as the queue does
			t.Fatal(err)
		}
		if _, err := f.Store.SweepJobs(t.Context()); err != nil {
			t.Fatal(err)
		}
		if job := f.find(id); job.State != store.AsyncQueued {
			t.Errorf("%+v", job)
		}
	}
	job, reply := f.ended(id)
	if job.State != store.AsyncFailed || job.Result.Status != 500 || reply != `{"error":{}}` || len(replies) != 0 {
		t.Errorf("%+v, %s, %d tries are left", job, reply, len(replies))
	}
	dead, err := f.Store.JobsPage(t.Context(), store.JobsPage{Tenant: "acme", State: store.JobDead, Most: 10})
	if err != nil || len(dead) != 1 || dead[0].ID != id || !strings.Contains(dead[0].Error, string(fault.Internal)) {
		t.Errorf("%+v, %v", dead, err)
	}
	if _, err := f.Store.ReplayDead(t.Context(), id, unaudited); err != nil {
		t.Fatal(err)
	}
	f.watch(good)
	if job, _ := f.ended(id); job.State != store.AsyncCompleted || job.Result.Status != 200 {
		t.Errorf("%+v", job)
	}
}

func TestAJobThatKillsIsGivenUp(t *testing.T) {
	f := newFixture(t)
	id := f.mustCreate()
	jobs, err := f.Store.ClaimJobs(t.Context(), store.AsyncQueue, "me", 1, time.Minute)
	if err != nil || len(jobs) != 1 {
		t.Fatal(jobs, err)
	}
	jobs[0].Deaths = batch.MaxDeaths - 1
	if err := f.Store.BeginAlone(t.Context(), jobs[0], "acme"); err != nil {
		t.Fatal(err)
	}
	jobs[0].Deaths = batch.MaxDeaths
	w := &worker{f.Jobs, func(context.Context, batch.Request) batch.Reply {
		t.Error("it was run again")
		return batch.Reply{}
	}}
	if err := w.handle(t.Context(), jobs[0]); err != nil {
		t.Fatal(err)
	}
	if job, _ := f.ended(id); job.State != store.AsyncFailed || job.Result.ErrorCode != "not_survived" || job.Result.Status != 0 {
		t.Errorf("%+v", job)
	}
	if dead, err := f.Store.JobsPage(t.Context(), store.JobsPage{Tenant: "acme", State: store.JobDead, Most: 10}); err != nil || len(dead) != 1 {
		t.Errorf("%+v, %v", dead, err)
	}
}

// A request that ends the hot path each time is given up as one that ends the gateway is. When nobody is there, nothing is counted.
func TestAJobThatEndsTheHotPathIsGivenUp(t *testing.T) {
	f := newFixture(t)
	id := f.mustCreate()
	var calls atomic.Int64
	f.watch(func(context.Context, batch.Request) batch.Reply {
		calls.Add(1)
		return batch.Reply{Status: 503, NoRoom: true, Failure: &fault.Fault{Reason: fault.HotpathUnavailable, CutOff: true}}
	})
	if job, _ := f.ended(id); calls.Load() != batch.MaxDeaths || job.State != store.AsyncFailed || job.Result.ErrorCode != batch.NotSurvived {
		t.Errorf("after %d calls: %+v", calls.Load(), job)
	}
}

// Who is on its last chance dies for nobody else's request, and nobody for its.
func TestAJobOnItsLastChanceRunsAlone(t *testing.T) {
	f := newFixture(t)
	var running, alone atomic.Int64
	suspect := f.mustCreate()
	w := &worker{f.Jobs, func(ctx context.Context, request batch.Request) batch.Reply {
		n := running.Add(1)
		defer running.Add(-1)
		time.Sleep(5 * time.Millisecond) // the work
		if request.ID == suspect {
			if n = max(n, running.Load()); n == 1 {
				alone.Add(1)
			}
		}
		return good(ctx, request)
	}}
	for range 20 {
		f.mustCreate()
	}
	jobs, err := f.Store.ClaimJobs(t.Context(), store.AsyncQueue, "me", 50, time.Minute)
	if err != nil || len(jobs) != 21 {
		t.Fatal(len(jobs), err)
	}
	var handling sync.WaitGroup
	for _, job := range jobs[1:] {
		handling.Go(func() {
			if err := w.handle(t.Context(), job); err != nil {
				t.Error(err)
			}
		})
	}
	jobs[0].Deaths = batch.MaxDeaths + 5 // as it waited for its turn
	if err := w.handle(t.Context(), jobs[0]); err != nil {
		t.Error(err)
	}
	handling.Wait()
	if job := f.find(suspect); job.State != store.AsyncCompleted || job.Alone != batch.MaxDeaths+5 {
		t.Errorf("%+v", job)
	}
	if alone.Load() != 1 {
		t.Error("it had company")
	}
}

// One that was put off while it was alone is not given up for the sake of a gateway that ends while it waits for its next turn.
func TestAGatewayThatEndsWhileAJobWaitsIsNoDeathOfIt(t *testing.T) {
	f := newFixture(t)
	id := f.mustCreate()
	claim := func(lease time.Duration) store.Job {
		jobs, err := f.Store.ClaimJobs(t.Context(), store.AsyncQueue, "me", 1, lease)
		if err != nil || len(jobs) != 1 {
			t.Fatal(jobs, err)
		}
		return jobs[0]
	}
	put := func(job store.Job) {
		job.Deaths = batch.MaxDeaths - 1 // as if it had
		if err := errors.Join(f.Store.BeginAlone(t.Context(), job, "acme"), f.Store.RetryJob(t.Context(), job, 0, "no room")); err != nil {
			t.Fatal(err)
		}
	}
	swept := func() bool {
		n, err := f.Store.SweepJobs(t.Context())
		return err == nil && n == 1
	}
	put(claim(time.Minute))
	eventually(t, "it is ready again", swept)
	end, err := f.Turns.Beside(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{f.Jobs, good}
	waits, ended := claim(time.Second), make(chan error, 1)
	go func() { ended <- w.handle(t.Context(), waits) }()
	eventually(t, "its lease has run out", swept)
	end()
	if err := <-ended; !errors.Is(err, store.ErrLost) {
		t.Errorf("it was run without a lease: %v", err)
	}
	if err := w.handle(t.Context(), claim(time.Minute)); err != nil {
		t.Error(err)
	}
	if job := f.find(id); job.State != store.AsyncCompleted {
		t.Errorf("%+v", job)
	}
}

// One that runs is stopped at once, and one that waits is not begun.
func TestAJobIsCancelled(t *testing.T) {
	f := newFixture(t)
	began, stopped := make(chan string, 10), make(chan error, 10)
	f.watch(func(ctx context.Context, request batch.Request) batch.Reply {
		began <- request.ID
		<-ctx.Done()
		stopped <- context.Cause(ctx)
		return good(ctx, request) // regardless
	})
	ids := []string{f.mustCreate(), f.mustCreate(), f.mustCreate(), f.mustCreate()}
	for range ids {
		<-began
	}
	waiting := f.mustCreate()
	if job := f.find(ids[0]); job.State != store.AsyncInProgress {
		t.Errorf("%+v", job)
	}
	if _, err := f.Cancel(t.Context(), "globex", waiting); fault.Of(err).Reason != fault.JobNotFound {
		t.Errorf("another tenant's: %v", err)
	}
	if job, err := f.Cancel(t.Context(), "acme", waiting); err != nil || job.State != store.AsyncCancelled {
		t.Errorf("%+v, %v", job, err)
	}
	for _, id := range ids {
		if job, err := f.Cancel(t.Context(), "acme", id); err != nil || job.State != store.AsyncCancelled {
			t.Errorf("%+v, %v", job, err)
		}
		select {
		case cause := <-stopped:
			if !errors.Is(cause, store.ErrLost) {
				t.Error(cause)
			}
		case <-time.After(patience):
			t.Fatal("it runs on")
		}
		if job, reply := f.ended(id); job.State != store.AsyncCancelled || reply != "" {
			t.Errorf("%+v, %s", job, reply)
		}
	}
	if len(began) != 0 {
		t.Error("a job that was cancelled was begun")
	}
}

func TestWhatWasNotRunInTimeExpires(t *testing.T) {
	f := newFixture(t)
	id := f.mustCreate()
	f.late.Store(int64(time.Hour))
	f.watch(func(context.Context, batch.Request) batch.Reply {
		t.Error("it was run")
		return batch.Reply{}
	})
	if job, _ := f.ended(id); job.State != store.AsyncExpired {
		t.Errorf("%+v", job)
	}
	if _, err := f.Cancel(t.Context(), "acme", id); fault.Of(err).Reason != fault.JobEnded || !strings.Contains(fault.Of(err).Message, "expired") {
		t.Errorf("cancelled: %v", err)
	}
}

// What runs when the gateway stops is given back, and run again.
func TestWhatRunsWhenTheGatewayStopsIsRunAgain(t *testing.T) {
	f := newFixture(t)
	began := make(chan struct{}, 10)
	id := f.mustCreate()
	stop := f.watch(func(ctx context.Context, _ batch.Request) batch.Reply {
		began <- struct{}{}
		<-ctx.Done() // as the drain is over
		return refused(499, fault.Cancelled, false)
	})
	<-began
	stop()
	if job := f.find(id); job.State != store.AsyncQueued {
		t.Errorf("%+v", job)
	}
	f.watch(good)
	if job, _ := f.ended(id); job.State != store.AsyncCompleted {
		t.Errorf("%+v", job)
	}
}

func TestJobsKeepToTheirTenantsLimits(t *testing.T) {
	f := newFixture(t)
	for range 1000 / len(body) {
		f.mustCreate()
	}
	if _, err := f.create(); fault.Of(err).Reason != fault.BatchLimited || !strings.Contains(fault.Of(err).Message, "1000 tokens") {
		t.Errorf("%v", err)
	}
	f.MaxOpen = 3
	if _, err := f.create(); fault.Of(err).Reason != fault.BatchLimited || !strings.Contains(fault.Of(err).Message, "may have 3") {
		t.Errorf("%v", err)
	}
}

// Who waits is told at once; and looks by itself where nothing tells.
func TestWhoWaitsIsWoken(t *testing.T) {
	f := newFixture(t)
	var waiting sync.WaitGroup
	ids := []string{f.mustCreate(), f.mustCreate()}
	for _, id := range ids {
		waiting.Go(func() {
			if job, _ := f.ended(id); job.State != store.AsyncCompleted {
				t.Errorf("%+v", job)
			}
		})
	}
	f.watch(good)
	waiting.Wait()
	if len(f.waiters.of) != 0 {
		t.Errorf("they wait on: %v", f.waiters.of)
	}
	id := f.mustCreate()
	over := make(chan struct{})
	close(over)
	if job, err := f.Await(t.Context(), "acme", id, over); err != nil || job.ID != id {
		t.Errorf("who waits no more is not told: %+v, %v", job, err)
	}
	if _, err := f.Await(t.Context(), "globex", id, nil); fault.Of(err).Reason != fault.JobNotFound {
		t.Errorf("another tenant's: %v", err)
	}
}
