package batch

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"triptych.dev/gateway/internal/blob"
	"triptych.dev/gateway/internal/charge"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/store"
)

func TestMain(m *testing.M) {
	// The connections of databases that were just closed end a moment later.
	if os.Getenv(asWorker) != "" {
		work()
		return
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("database/sql.(*DB).connectionOpener"), goleak.Cleanup(func(status int) {
		postgres.Close()
		os.Exit(status)
	}))
}

const patience = 20 * time.Second

var acme = identity.Principal{Tenant: "acme", KeyID: "key", Plan: identity.Plan{Name: "plan", StoredFiles: 100, StoredBytes: 1 << 30, EnqueuedTokens: 200_000}}

// fixture has the batches of a store of their own.
type fixture struct {
	*testing.T
	*Batches
	folder string
	late   atomic.Int64 // by how much the clock is ahead
	shared bool         // among gateways, of which none may remove what another one may be writing
	// enqueued is what the plan allows of that; 0: what acme's does.
	enqueued int64
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{T: t, folder: t.TempDir()}
	f.open(store.Options{Data: filepath.Join(f.folder, "data")}, store.Gateway)
	return f
}

// open opens the batches of a store, which is closed with the test.
func (f *fixture) open(options store.Options, role store.Role) {
	f.Helper()
	kept, err := store.Open(f.Context(), options, role)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { kept.Close() })
	blobs, err := blob.OpenFolder(filepath.Join(f.folder, "blobs"))
	if err != nil {
		f.Fatal(err)
	}
	now := func() time.Time { return time.Now().Add(time.Duration(f.late.Load())) }
	f.Batches = batchesOf(kept, blobs, now, quota.NewLimiter(quota.NewMemory(time.Now, time.Minute), time.Now))
}

func batchesOf(kept *store.Store, blobs *blob.Folder, now func() time.Time, limiter *quota.Limiter) *Batches {
	logger := slog.New(slog.DiscardHandler)
	return New(Options{
		Store: kept, Turns: NewTurns(kept), Segments: 2, Lines: 4, Drain: 100 * time.Millisecond, Now: now, Logger: logger,
		Files:   files.New(files.Options{Store: kept, Blobs: blobs, MaxBytes: 1 << 30, MaxUploads: 4, Now: now, Logger: logger}),
		Charges: charge.New(kept, limiter, logger),
		PlanOf:  func(string, string) (identity.Plan, bool) { return acme.Plan, true },
	})
}

// submit creates a batch of so many lines.
func (f *fixture) submit(lines int) (store.Batch, error) {
	f.Helper()
	return f.submitTexts(slices.Repeat([]string{"x"}, lines)...)
}

// submitTexts creates a batch of a line for each text.
func (f *fixture) submitTexts(texts ...string) (store.Batch, error) {
	f.Helper()
	var text strings.Builder
	for i, of := range texts {
		text.WriteString(strings.Replace(lineWith(`"a"`, fmt.Sprintf(`"%d"`, i)), `"x"`, strconv.Quote(of), 1) + "\n")
	}
	upload, err := f.Files.Begin(f.Context(), acme, int64(text.Len()))
	if err != nil {
		f.Fatal(err)
	}
	defer upload.Close()
	if err := upload.Write(f.Context(), strings.NewReader(text.String()), files.Batch); err != nil {
		f.Fatal(err)
	}
	file, err := upload.Finish(f.Context(), files.About{Purpose: files.Batch, Name: "in.jsonl"}, func(store.File) (*store.Answer, error) { return nil, nil })
	if err != nil {
		f.Fatal(err)
	}
	owner := acme
	owner.Plan.EnqueuedTokens = cmp.Or(f.enqueued, owner.Plan.EnqueuedTokens)
	return f.Create(f.Context(), owner, Asked{File: file.ID, Endpoint: endpoint}, withoutKey)
}

// watch runs batches until stop is called.
func (f *fixture) watch(execute Execute) (stop func()) {
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

// ended waits for a batch's end.
func (f *fixture) ended(id string) store.Batch {
	f.Helper()
	return f.endedWithin(id, patience)
}

func (f *fixture) endedWithin(id string, limit time.Duration) store.Batch {
	f.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		batch, err := f.Find(f.Context(), "acme", id)
		if err != nil {
			f.Fatal(err)
		}
		if !batch.Ended.IsZero() {
			return batch
		}
		if time.Now().After(deadline) {
			f.Fatalf("not ended: %+v", batch)
		}
	}
}

// written is a line of a file that came out.
type written struct {
	CustomID string `json:"custom_id"`
	Response *struct {
		StatusCode int `json:"status_code"`
		Body       any `json:"body"`
	}
	Error *struct{ Code, Message string }
}

func (f *fixture) lines(file string) (lines []written) {
	f.Helper()
	if file == "" {
		return nil
	}
	_, content, err := f.Files.Open(f.Context(), "acme", file)
	if err != nil {
		f.Fatal(err)
	}
	defer content.Close()
	text, err := io.ReadAll(content)
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var one written
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			f.Fatal(err)
		}
		lines = append(lines, one)
	}
	return lines
}

// once holds that files have each of so many lines once.
func (f *fixture) once(count int, batch store.Batch) (output, errs []written) {
	f.Helper()
	output, errs = f.lines(batch.Output), f.lines(batch.Errors)
	seen := map[string]int{}
	for _, line := range append(output, errs...) {
		seen[line.CustomID]++
	}
	for i := range count {
		if seen[fmt.Sprint(i)] != 1 {
			f.Errorf("line %d came out %d times", i, seen[fmt.Sprint(i)])
		}
	}
	if len(output)+len(errs) != count || int64(len(output)) != batch.Done {
		f.Errorf("%d and %d lines came out of %+v", len(output), len(errs), batch)
	}
	for i := 1; i < len(output); i++ {
		if before, after := output[i-1].CustomID, output[i].CustomID; len(before) > len(after) || len(before) == len(after) && before >= after {
			f.Errorf("%s came out before %s", before, after)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(f.folder, "blobs/tmp")); err != nil || len(entries) > 0 && !f.shared {
		f.Errorf("temporaries are left: %v, %v", entries, err)
	}
	return output, errs
}

// withoutKey keeps no answer.
func withoutKey(store.Batch) (*store.Answer, error) { return nil, nil }

func good(context.Context, Request) Reply {
	return Reply{Status: 200, Body: []byte(`{"object":"list"}`), Tokens: store.BatchTokens{Input: 3}}
}

func refused(reason fault.Reason, after time.Duration, noRoom bool) Reply {
	return Reply{Status: 503, Body: []byte(`{"error":{}}`), Failure: &fault.Fault{Reason: reason, RetryAfter: after, Message: "no"}, NoRoom: noRoom}
}

func TestEachLineComesOutOnce(t *testing.T) {
	f := newFixture(t)
	batch := f.mustSubmit(1300)
	if batch.State != store.BatchInProgress || batch.Pending != 3 || batch.Model != "m" || batch.Lines != 1300 {
		t.Errorf("%+v", batch)
	}
	f.watch(func(ctx context.Context, request Request) Reply {
		if request.Principal.Tenant != "acme" || request.Endpoint != endpoint || request.ID == "" || string(request.Body) != `{"model":"m","input":"x"}` {
			t.Errorf("%+v", request)
		}
		return good(ctx, request)
	})
	batch = f.ended(batch.ID)
	f.once(1300, batch)
	if batch.State != store.BatchCompleted || batch.Tokens.Input != 3*1300 || batch.Failed != 0 || batch.Enqueued != 0 {
		t.Errorf("%+v", batch)
	}
}

// What there was no room for is no failure of its line; what is wrong with a line is one.
func TestALineIsRepeatedUntilThereIsRoom(t *testing.T) {
	f := newFixture(t)
	var calls atomic.Int64
	batch := f.mustSubmit(20)
	f.watch(func(ctx context.Context, request Request) Reply {
		switch n := calls.Add(1); {
		case n <= 3:
			return refused(fault.QueueFull, time.Millisecond, true)
		case n == 4 || n == 5:
			return refused(fault.Internal, 0, false)
		case n == 7:
			return refused(fault.EmptyInput, 0, false)
		}
		return good(ctx, request)
	})
	batch = f.ended(batch.ID)
	_, errs := f.once(20, batch)
	if batch.Done != 19 || batch.Failed != 1 || len(errs) != 1 || errs[0].Response.StatusCode != 503 || calls.Load() != 25 {
		t.Errorf("%+v, %+v, %d calls", batch, errs, calls.Load())
	}
}

// A limit that is asked to wait for too long puts the whole segment off, and nothing of it is written.
func TestASegmentIsPutOffWhereAWaitIsTooLong(t *testing.T) {
	f := newFixture(t)
	var hour atomic.Bool
	hour.Store(true)
	put := make(chan struct{}, 100)
	batch := f.mustSubmit(10)
	stop := f.watch(func(ctx context.Context, request Request) Reply {
		if hour.Load() {
			put <- struct{}{}
			return refused(fault.RateLimited, time.Hour, true)
		}
		return good(ctx, request)
	})
	<-put
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		states, err := f.Store.CountJobs(t.Context(), store.BatchQueue)
		if err != nil || time.Now().After(deadline) {
			t.Fatal(states, err)
		}
		if states[store.JobLater] == 1 {
			break
		}
	}
	stop()
	if found, err := f.Find(t.Context(), "acme", batch.ID); err != nil || found.Done+found.Failed != 0 || found.State != store.BatchInProgress {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestWhatRunsWhenTheGatewayStopsIsRunAgain(t *testing.T) {
	f := newFixture(t)
	batch := f.mustSubmit(600)
	began := make(chan struct{}, 600)
	stop := f.watch(func(ctx context.Context, _ Request) Reply {
		began <- struct{}{}
		<-ctx.Done() // as the drain is over
		return refused(fault.Cancelled, 0, false)
	})
	<-began
	start := time.Now()
	stop()
	if time.Since(start) > f.Drain+5*time.Second {
		t.Errorf("it ended after %v", time.Since(start))
	}
	f.watch(good)
	batch = f.ended(batch.ID)
	f.once(600, batch)
	if batch.State != store.BatchCompleted || batch.Failed != 0 {
		t.Errorf("%+v", batch)
	}
}

// A segment that takes long is divided: what has run is kept.
func TestASegmentIsRunForALimitedTime(t *testing.T) {
	f := newFixture(t)
	f.segmentTime = 5 * time.Millisecond
	batch := f.mustSubmit(40)
	f.watch(func(ctx context.Context, request Request) Reply {
		time.Sleep(time.Millisecond) // the work
		return good(ctx, request)
	})
	batch = f.ended(batch.ID)
	f.once(40, batch)
	if batch.Tokens.Input != 3*40 {
		t.Errorf("%+v", batch)
	}
	jobs, err := f.Store.FindHeldJob(t.Context(), batch.ID+"/00000+40")
	if err != nil || jobs.State != store.JobDone {
		t.Errorf("%+v, %v", jobs, err)
	}
}

// A line that ends the gateway takes its segment along three times, then that is halved, and in the end it is alone.
func TestALineThatKillsFailsAlone(t *testing.T) {
	f := newFixture(t)
	batch := f.mustSubmit(8)
	w := &worker{f.Batches, func(ctx context.Context, request Request) Reply { return good(ctx, request) }}
	poison := func(job store.Job) bool {
		id, n, _ := store.ParseSegmentJob(job.Args)
		segment, err := f.Store.FindSegment(t.Context(), "acme", id, n)
		return err == nil && job.Kind == store.SegmentJob && n <= 5 && 5 < n+segment.Lines
	}
	for range 100 {
		jobs, err := f.Store.ClaimJobs(t.Context(), store.BatchQueue, "a test", 1, time.Minute)
		if err != nil || len(jobs) == 0 {
			t.Fatalf("%v, %v", jobs, err)
		}
		job := jobs[0]
		if poison(job) {
			job.Deaths = MaxDeaths // as if it had
		}
		if err := w.handle(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		if job.Kind == store.FinalizeJob {
			break
		}
	}
	batch = f.ended(batch.ID)
	_, errs := f.once(8, batch)
	if len(errs) != 1 || errs[0].CustomID != "5" || errs[0].Error.Code != "not_survived" || batch.Done != 7 || batch.Failed != 1 {
		t.Errorf("%+v, %+v", batch, errs)
	}
}

func TestWhatIsNotRunInTimeIsSaid(t *testing.T) {
	f := newFixture(t)
	batch := f.mustSubmit(2000) // of four segments: when so many lines are served, the last one has not begun
	var served atomic.Int64
	f.watch(func(ctx context.Context, request Request) Reply {
		if served.Add(1) == 600 {
			f.late.Store(int64(lifetime)) // the window ends
		}
		if served.Load() >= 600 {
			for { // until that is seen
				if found, err := f.Find(ctx, "acme", batch.ID); err != nil || !found.Expired.IsZero() {
					break
				}
			}
		}
		return good(ctx, request)
	})
	batch = f.ended(batch.ID)
	output, errs := f.once(2000, batch)
	if batch.State != store.BatchExpired || len(output) == 0 || len(errs) == 0 {
		t.Fatalf("%+v: %d, %d", batch, len(output), len(errs))
	}
	for _, line := range errs {
		if line.Error == nil || line.Error.Code != "batch_expired" {
			t.Errorf("%+v", line)
		}
	}
}

// Cancelling has effect within a moment, also where lines wait for a limit or take long. What is finished is kept.
func TestACancelledBatchStopsWithinAMoment(t *testing.T) {
	f := newFixture(t)
	batch := f.mustSubmit(600)
	var calls atomic.Int64
	waits := make(chan struct{}, 600)
	f.watch(func(ctx context.Context, request Request) Reply {
		switch n := calls.Add(1); {
		case n <= 50:
			return good(ctx, request)
		case n%2 == 0:
			waits <- struct{}{}
			return refused(fault.RateLimited, time.Minute, true)
		}
		waits <- struct{}{}
		<-ctx.Done() // as what takes long
		return refused(fault.Cancelled, 0, false)
	})
	for range 2 { // one of each kind; a segment whose first line waits may have no other worker at work
		<-waits
	}
	began := time.Now()
	if _, err := f.Cancel(t.Context(), "acme", batch.ID); err != nil {
		t.Fatal(err)
	}
	batch = f.ended(batch.ID)
	if took := time.Since(began); took > 5*time.Second { // less than anything above waits
		t.Errorf("it took %v", took)
	}
	output, errs := f.once(600, batch)
	if batch.State != store.BatchCancelled || len(output) != 50 || batch.Failed != 0 {
		t.Errorf("%+v: %d, %d", batch, len(output), len(errs))
	}
	for _, line := range errs {
		if line.Error == nil || line.Error.Code != "batch_cancelled" {
			t.Errorf("%+v", line)
		}
	}
}

// A segment that was claimed before, and comes again after its batch was cancelled, is not run.
func TestASegmentOfACancelledBatchIsNotRunAgain(t *testing.T) {
	f := newFixture(t)
	batch := f.mustSubmit(600)
	jobs, err := f.Store.ClaimJobs(t.Context(), store.BatchQueue, "a gateway that ends", 1, time.Minute)
	if err != nil || len(jobs) != 1 {
		t.Fatal(jobs, err)
	}
	found, err := f.Cancel(t.Context(), "acme", batch.ID)
	if err != nil || found.State != store.BatchCancelling || found.Pending != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	if err := f.Store.ReleaseJobs(t.Context(), jobs); err != nil {
		t.Fatal(err)
	}
	f.watch(func(ctx context.Context, request Request) Reply {
		t.Error("it was run")
		return good(ctx, request)
	})
	batch = f.ended(batch.ID)
	if _, errs := f.once(600, batch); len(errs) != 600 || batch.State != store.BatchCancelled || batch.Failed+batch.Done != 0 {
		t.Errorf("%+v: %d", batch, len(errs))
	}
}

func TestABatchKeepsToItsTenantsLimit(t *testing.T) {
	f := newFixture(t)
	f.mustSubmit(1500)
	_, err := f.submit(1500)
	found := fault.Of(err)
	if found.Reason != fault.BatchLimited || found.Limit != 200_000 || !strings.Contains(found.Message, "enqueued_tokens") {
		t.Errorf("%v", err)
	}
	restricted := acme
	if restricted.Scopes, err = identity.ParseScopes([]string{"endpoint:/v1/batches"}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Create(t.Context(), restricted, Asked{Endpoint: endpoint}, withoutKey); fault.Of(err).Reason != fault.InsufficientScope {
		t.Error(err)
	}
	if _, err := f.Create(t.Context(), acme, Asked{File: "file-none", Endpoint: endpoint}, withoutKey); fault.Of(err).Param != "input_file_id" {
		t.Error(err)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := f.Find(gone, "acme", "batch_none"); fault.Of(err).Reason != fault.Cancelled {
		t.Error(err)
	}
	if _, err := f.Cancel(t.Context(), "globex", "batch_none"); fault.Of(err).Reason != fault.BatchNotFound {
		t.Error(err)
	}
}
