package webhook

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"triptych.dev/gateway/internal/store"
)

func TestMain(m *testing.M) {
	// The connections of databases that were just closed end a moment later.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("database/sql.(*DB).connectionOpener"))
}

const patience = 20 * time.Second

// receiver counts what it gets, by the header webhook-id, and answers as it is told to.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	got    []string
	answer func(n int, w http.ResponseWriter, r *http.Request) // n: how many there were before
}

func newReceiver(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *receiver {
	t.Helper()
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		_, _ = io.Copy(io.Discard, request.Body) // or the server does not see its client go
		r.mu.Lock()
		n := len(r.got)
		r.got = append(r.got, request.Header.Get("Webhook-Id"))
		r.mu.Unlock()
		r.answer(n, w, request)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.got...)
}

func answering(status int) func(int, http.ResponseWriter, *http.Request) {
	return func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

// fixture has webhooks of a store of their own.
type fixture struct {
	*testing.T
	*Webhooks
}

func newFixture(t *testing.T, workers int, retries ...time.Duration) *fixture {
	t.Helper()
	kept, err := store.Open(t.Context(), store.Options{Data: filepath.Join(t.TempDir(), "data")}, store.Gateway)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kept.Close() })
	return &fixture{t, New(Options{
		Store: kept, Guard: loopback, Workers: workers, Timeout: 5 * time.Second, Retries: retries, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
	})}
}

func (f *fixture) watch() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Watch(ctx)
	}()
	f.Cleanup(func() {
		cancel()
		<-done
	})
}

func (f *fixture) hook(tenant, url string) store.Webhook {
	f.Helper()
	hook, err := f.Create(f.Context(), tenant, Asked{Name: &tenant, URL: &url, Events: store.EventTypes}, func(store.Webhook) (*store.Answer, error) { return nil, nil })
	if err != nil {
		f.Fatal(err)
	}
	return hook
}

// event ends a batch of a tenant.
func (f *fixture) event(tenant string) {
	f.Helper()
	now := time.Now()
	file := store.File{ID: store.NewID("file-", now), Purpose: "batch", SHA256: store.NewID("", now), Created: now}
	must := func(err error) {
		f.Helper()
		if err != nil {
			f.Fatal(err)
		}
	}
	must(f.Store.AddFile(f.Context(), tenant, file, store.FileUsage{}, nil))
	batch := store.Batch{ID: store.NewID("batch_", now), Tenant: tenant, File: file.ID, SHA256: file.SHA256, Lines: 1, Created: now, Expires: now.Add(time.Hour)}
	must(f.Store.AddBatch(f.Context(), tenant, batch, []store.Segment{{Lines: 1}}, store.BatchLimits{}, nil))
	for _, kind := range []string{store.SegmentJob, store.FinalizeJob} {
		jobs, err := f.Store.ClaimJobs(f.Context(), store.BatchQueue, "a test", 1, time.Minute)
		must(err)
		if len(jobs) != 1 || jobs[0].Kind != kind {
			f.Fatalf("claimed %+v", jobs)
		}
		if kind == store.SegmentJob {
			must(f.Store.FinishSegment(f.Context(), jobs[0], tenant, batch.ID, store.Segment{Lines: 1}, true, nil, now))
			continue
		}
		batch.State = store.BatchCompleted
		must(f.Store.FinishBatch(f.Context(), jobs[0], batch, nil, nil, now, now.Add(time.Hour)))
	}
}

func (f *fixture) log(hook store.Webhook) []store.Delivery {
	f.Helper()
	list, _, err := f.Deliveries(f.Context(), hook.Tenant, hook.ID, "", 100)
	if err != nil {
		f.Fatal(err)
	}
	return list
}

func (f *fixture) until(what string, is func() bool) {
	f.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.Fatalf("%s: not so after %v", what, patience)
		}
	}
}

func (f *fixture) ends(hook store.Webhook, state string) store.Delivery {
	f.Helper()
	f.until("a delivery that is "+state, func() bool { return f.log(hook)[0].State == state })
	return f.log(hook)[0]
}

// What failed comes again with the same id until it is taken.
func TestADeliveryIsRepeatedUntilItIsTaken(t *testing.T) {
	f := newFixture(t, 4, time.Millisecond, time.Millisecond, time.Millisecond)
	r := newReceiver(t, func(n int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader([]int{500, 302, 200}[n]) })
	hook := f.hook("acme", r.URL)
	f.event("acme")
	f.watch()
	d := f.ends(hook, store.DeliveryDelivered)
	if d.Attempts != 3 || d.Status != 200 || d.Error != "" || d.Ended.IsZero() {
		t.Errorf("%+v", d)
	}
	if ids := r.ids(); fmt.Sprint(ids) != fmt.Sprint([]string{d.ID, d.ID, d.ID}) {
		t.Errorf("got %v", ids)
	}
}

// What is never taken is dead, among the dead jobs; replayed, it has all of its attempts anew.
func TestADeliveryThatIsNeverTakenIsDeadUntilItIsReplayed(t *testing.T) {
	f := newFixture(t, 4, time.Millisecond)
	failing := true
	var mu sync.Mutex
	r := newReceiver(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if failing {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	hook := f.hook("acme", r.URL)
	f.event("acme")
	f.watch()
	d := f.ends(hook, store.DeliveryDead)
	dead, err := f.Store.JobsPage(t.Context(), store.JobsPage{Tenant: "acme", State: store.JobDead, Most: 10})
	if d.Attempts != 2 || d.Error != "the receiver answered 503" || err != nil || len(dead) != 1 || dead[0].ID != d.ID {
		t.Errorf("%+v, %+v, %v", d, dead, err)
	}
	mu.Lock()
	failing = false
	mu.Unlock()
	if _, err := f.Replay(t.Context(), "acme", hook.ID, d.ID); err != nil {
		t.Fatal(err)
	}
	if d := f.ends(hook, store.DeliveryDelivered); d.Attempts != 3 {
		t.Errorf("%+v", d)
	}
}

func TestAReceiverThatIsGoneIsNotAskedAgain(t *testing.T) {
	f := newFixture(t, 4, time.Millisecond)
	r := newReceiver(t, answering(http.StatusGone))
	hook := f.hook("acme", r.URL)
	f.event("acme")
	f.event("acme")
	f.watch()
	f.until("both dead", func() bool {
		list := f.log(hook)
		return list[0].State == store.DeliveryDead && list[1].State == store.DeliveryDead
	})
	found, err := f.Find(t.Context(), "acme", hook.ID)
	if err != nil || found.Enabled || found.DisabledFor != "the receiver answered 410" {
		t.Errorf("%+v, %v", found, err)
	}
	asked := len(r.ids())
	f.event("acme") // of which a disabled webhook is not told
	enabled := true
	if found, err = f.Change(t.Context(), "acme", hook.ID, Asked{Enabled: &enabled}); err != nil || !found.Enabled || found.DisabledFor != "" {
		t.Errorf("%+v, %v", found, err)
	}
	if n := len(f.log(hook)); n != 2 || asked > 2 {
		t.Errorf("%d deliveries, and the receiver was asked %d times", n, asked)
	}
}

// A receiver's wish is kept to, within a bound.
func TestARetryWaitsAsLongAsTheReceiverAsks(t *testing.T) {
	f := newFixture(t, 4, time.Millisecond)
	r := newReceiver(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", []string{"600", "9000000"}[n])
		w.WriteHeader(http.StatusTooManyRequests)
	})
	f.hook("acme", r.URL)
	for i, want := range []time.Duration{10 * time.Minute, maxRetryAfter} {
		f.event("acme")
		jobs, err := f.Store.ClaimJobs(t.Context(), store.WebhookQueue, "a test", 1, time.Minute)
		if err != nil || len(jobs) != 1 {
			t.Fatal(i, jobs, err)
		}
		if try, err := f.try(t.Context(), jobs[0]); err != nil || try.State != store.DeliveryPending || try.Again != want {
			t.Errorf("%+v, %v", try, err)
		}
	}
}

// A receiver that hangs holds its share of the workers, and others are told meanwhile: of the same tenant, and of others.
func TestAReceiverThatHangsHoldsUpNobodyElse(t *testing.T) {
	f := newFixture(t, 16) // a webhook has one of them
	hanging := make(chan struct{})
	slow := newReceiver(t, func(_ int, _ http.ResponseWriter, r *http.Request) {
		select {
		case <-hanging:
		case <-r.Context().Done():
		}
	})
	f.Timeout = patience
	f.sender.timeout = patience
	quick := newReceiver(t, answering(http.StatusOK))
	stuck := f.hook("acme", slow.URL)
	others := f.hook("globex", quick.URL)
	f.hook("acme", quick.URL)
	for range 20 {
		f.event("acme")
	}
	f.watch()
	f.until("the one is stuck", func() bool { return len(slow.ids()) > 0 })
	f.event("globex")
	f.ends(others, store.DeliveryDelivered)
	f.until("the tenant's other webhook is told of all", func() bool { return len(quick.ids()) == 21 })
	if n := len(slow.ids()); n != 1 {
		t.Errorf("%d attempts hang", n)
	}
	close(hanging)
	f.until("all are delivered", func() bool {
		list := f.log(stuck)
		return list[0].State == store.DeliveryDelivered && list[len(list)-1].State == store.DeliveryDelivered
	})
	f.until("all places are given back", func() bool { b := f.shares.busy(); return len(b.Args) == 0 && len(f.shares.hooks) == 0 })
}

// What is sent when the gateway is told to stop, and has no more time, is no attempt: it is made again.
func TestAnAttemptThatTheStopCutsOffDoesNotCount(t *testing.T) {
	f := newFixture(t, 4)
	slow := newReceiver(t, func(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	hook := f.hook("acme", slow.URL)
	f.sender.timeout, f.Timeout = patience, 10*time.Millisecond // the latter is the drain's
	f.event("acme")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Watch(ctx)
	}()
	f.until("it is under way", func() bool { return len(slow.ids()) > 0 })
	stop()
	<-done
	d := f.log(hook)[0]
	job, err := f.Store.FindHeldJob(t.Context(), d.ID)
	if d.State != store.DeliveryPending || d.Attempts != 0 || err != nil || job.State != store.JobReady || job.Errors != 0 {
		t.Errorf("%+v, %+v, %v", d, job, err)
	}
}

func TestTheDeliveriesOfADeletedWebhookAreDropped(t *testing.T) {
	f := newFixture(t, 4)
	r := newReceiver(t, answering(http.StatusOK))
	hook := f.hook("acme", r.URL)
	f.event("acme")
	if err := f.Delete(t.Context(), "acme", hook.ID); err != nil {
		t.Fatal(err)
	}
	f.watch()
	f.until("nothing waits", func() bool { n, _, err := f.Store.PendingDeliveries(t.Context()); return n == 0 && err == nil })
	if ids := r.ids(); len(ids) != 0 {
		t.Errorf("got %v", ids)
	}
}
