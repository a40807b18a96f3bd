package engine

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/telemetry"
	"triptych.dev/gateway/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waits that end long before on any machine.
const patience = 10 * time.Second

func TestAHotPathListensAtAPortOrASocket(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "hotpath.sock")} {
		hotpath := testkit.StartHotpath(t, address)
		e := newEngine(t, patience, time.Now, hotpath.Address)
		if _, err := e.Embed(t.Context(), request()); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func newEngine(t *testing.T, timeout time.Duration, now func() time.Time, addresses ...string) *Engine {
	t.Helper()
	e, _ := newLoggedEngine(t, timeout, now, addresses...)
	return e
}

func newLoggedEngine(t *testing.T, timeout time.Duration, now func() time.Time, addresses ...string) (*Engine, *testkit.Log) {
	t.Helper()
	log := &testkit.Log{}
	e, err := New(Options{
		Addresses: addresses, Timeout: timeout, GenerationTimeout: timeout, CanaryInterval: 5 * time.Second, ReadyWindow: 15 * time.Second,
		Metrics: telemetry.NewMetrics(100, time.Now), Logger: telemetry.NewLogger(log, slog.LevelDebug), Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e, log
}

// check looks at all replicas once, and waits for the canaries.
func (e *Engine) check(ctx context.Context) {
	for _, r := range e.pool.replicas() {
		r.refresh(ctx)
		r.canaries.Wait()
		r.logChanges()
	}
}

// modelStatuses are those of all replicas.
func modelStatuses(e *Engine) (all []ModelStatus) {
	_, replicas := e.Ready()
	for _, replica := range replicas {
		all = append(all, replica.Models...)
	}
	return all
}

func request() *inferencev1.EmbedRequest {
	return &inferencev1.EmbedRequest{
		Model:      testkit.ModelName,
		Inputs:     []*inferencev1.EmbedInput{{Input: &inferencev1.EmbedInput_Text{Text: "a"}}},
		Scheduling: &inferencev1.Scheduling{FairnessKey: "acme", Priority: inferencev1.Priority_PRIORITY_INTERACTIVE},
	}
}

func reasonOf(err error) string {
	if err == nil {
		return "OK"
	}
	return string(fault.Of(err).Reason)
}

// TestTheTokensOfTheLongestTextsFitAReply takes the worst case: each byte is a token, with the largest of ids.
func TestTheTokensOfTheLongestTextsFitAReply(t *testing.T) {
	const (
		special   = 2      // tokens of each text that stand for none of its bytes
		mostTexts = 65_536 // package openai takes no more
		largest   = 1<<21 - 1
	)
	ids := slices.Repeat([]uint32{largest}, MaxTokenizeBytes+special)
	offsets := make([]uint32, len(ids)+1)
	for i := range offsets {
		offsets[i] = uint32(i)
	}
	tokensOf := func(bytes int) *inferencev1.TokenizedText {
		count := bytes + special
		return &inferencev1.TokenizedText{
			Ids: ids[:count], ByteStarts: offsets[:count], ByteEnds: offsets[1 : count+1], TokenCount: uint32(count),
		}
	}
	for name, texts := range map[string][]*inferencev1.TokenizedText{
		"one text": {tokensOf(MaxTokenizeBytes)},
		"many texts": append(slices.Repeat([]*inferencev1.TokenizedText{tokensOf(1)}, mostTexts-1),
			tokensOf(MaxTokenizeBytes-mostTexts+1)),
	} {
		if size := proto.Size(&inferencev1.TokenizeResponse{Texts: texts}); size > maxReplyBytes {
			t.Errorf("%s: the reply has %d bytes, the limit is %d", name, size, maxReplyBytes)
		}
	}
}

func TestEmbedCarriesIdentity(t *testing.T) {
	hotpath := testkit.StartHotpath(t, "127.0.0.1:0")
	e := newEngine(t, patience, time.Now, hotpath.Address)
	reply, err := e.Embed(Outgoing(t.Context(), "req-1", "00-1-2-00"), request())
	if err != nil || len(reply.GetEmbeddings()) != 4*testkit.Dimensions {
		t.Fatalf("got %d bytes, %v", len(reply.GetEmbeddings()), err)
	}
	carried := hotpath.Calls()[0].Metadata
	if carried.Get("x-request-id")[0] != "req-1" || carried.Get("traceparent")[0] != "00-1-2-00" {
		t.Errorf("got %v", carried)
	}
}

func TestLargeRepliesFit(t *testing.T) {
	hotpath := testkit.StartHotpath(t, "127.0.0.1:0")
	hotpath.SetEmbed(func(context.Context, *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		return &inferencev1.EmbedResponse{Embeddings: make([]byte, 32<<20)}, nil
	})
	e := newEngine(t, patience, time.Now, hotpath.Address)
	if reply, err := e.Embed(t.Context(), request()); err != nil || len(reply.GetEmbeddings()) != 32<<20 {
		t.Errorf("got %d bytes, %v", len(reply.GetEmbeddings()), err)
	}
}

// hang makes Embed wait for its caller to go away, and tells when it began and when it saw that.
func hang(hotpath *testkit.Hotpath) (began, left chan struct{}) {
	began, left = make(chan struct{}, 100), make(chan struct{}, 100)
	hotpath.SetEmbed(func(ctx context.Context, _ *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		began <- struct{}{}
		<-ctx.Done()
		left <- struct{}{}
		return nil, status.FromContextError(ctx.Err()).Err()
	})
	return began, left
}

func await(t *testing.T, what string, event <-chan struct{}) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(patience):
		t.Fatalf("no %s in %v", what, patience)
	}
}

// Batch work has what others leave: it may take longer.
func TestBatchWorkHasMoreTime(t *testing.T) {
	hotpath := testkit.StartHotpath(t, "127.0.0.1:0")
	const timeout = time.Minute
	left := make(chan time.Duration, 1)
	hotpath.SetEmbed(func(ctx context.Context, request *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		deadline, _ := ctx.Deadline()
		left <- time.Until(deadline)
		return testkit.Embed(ctx, request)
	})
	e := newEngine(t, timeout, time.Now, hotpath.Address)
	for priority, times := range map[inferencev1.Priority]time.Duration{
		inferencev1.Priority_PRIORITY_INTERACTIVE: 1, inferencev1.Priority_PRIORITY_BATCH: batchPatience,
	} {
		asked := request()
		asked.Scheduling.Priority = priority
		if _, err := e.Embed(t.Context(), asked); err != nil {
			t.Fatal(err)
		}
		if got := <-left; got > times*timeout || got < times*timeout-patience {
			t.Errorf("%v: %v are left", priority, got)
		}
	}
}

func TestDeadlineReachesTheHotpath(t *testing.T) {
	hotpath := testkit.StartHotpath(t, "127.0.0.1:0")
	_, left := hang(hotpath)
	e := newEngine(t, 50*time.Millisecond, time.Now, hotpath.Address)
	if _, err := e.Embed(t.Context(), request()); reasonOf(err) != "DEADLINE_EXCEEDED" {
		t.Errorf("got %v", err)
	}
	await(t, "end of the work", left)
}

func TestCancellationReachesTheHotpath(t *testing.T) {
	hotpath := testkit.StartHotpath(t, "127.0.0.1:0")
	began, left := hang(hotpath)
	e := newEngine(t, patience, time.Now, hotpath.Address)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	if _, err := e.Embed(ctx, request()); reasonOf(err) != "CANCELLED" {
		t.Errorf("got %v", err)
	}
	await(t, "end of the work", left)
}

func TestARefusalIsNotRepeated(t *testing.T) {
	hotpath := testkit.StartHotpath(t, "127.0.0.1:0")
	hotpath.SetEmbed(func(context.Context, *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		return nil, testkit.RefusalWith(codes.Unavailable, "QUEUE_FULL", "", "full", 3*time.Second)
	})
	e := newEngine(t, patience, time.Now, hotpath.Address)
	_, err := e.Embed(t.Context(), request())
	if reasonOf(err) != "QUEUE_FULL" || fault.Of(err).RetryAfter != 3*time.Second {
		t.Errorf("got %v", err)
	}
	if calls := len(hotpath.Calls()); calls != 1 {
		t.Errorf("%d calls for one request", calls)
	}
}

func TestNoHotpathIsSaidAtOnce(t *testing.T) {
	hotpath := testkit.StartHotpath(t, "127.0.0.1:0")
	hotpath.Stop()
	e := newEngine(t, time.Hour, time.Now, hotpath.Address)
	start := time.Now()
	if _, err := e.Embed(t.Context(), request()); reasonOf(err) != "HOTPATH_UNAVAILABLE" {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > patience {
		t.Errorf("it took %v", took)
	}
}

func TestACrashIsSaidAtOnceAndServiceComesBack(t *testing.T) {
	hotpath := testkit.StartHotpath(t, "127.0.0.1:0")
	began, _ := hang(hotpath)
	e := newEngine(t, time.Hour, time.Now, hotpath.Address)
	const waiting = 8
	results := make(chan error, waiting)
	for range waiting {
		go func() {
			_, err := e.Embed(t.Context(), request())
			results <- err
		}()
	}
	for range waiting {
		await(t, "start of the work", began)
	}
	hotpath.Stop()
	for range waiting {
		select {
		case err := <-results:
			if reasonOf(err) != "HOTPATH_UNAVAILABLE" || !fault.Of(err).CutOff {
				t.Errorf("got %v", err)
			}
		case <-time.After(patience):
			t.Fatal("a request hangs after the crash")
		}
	}
	if calls := len(hotpath.Calls()); calls != waiting {
		t.Errorf("%d calls for %d requests: a lost call was repeated", calls, waiting)
	}
	if _, err := e.Embed(t.Context(), request()); reasonOf(err) != "HOTPATH_UNAVAILABLE" || fault.Of(err).CutOff {
		t.Errorf("when nobody is there: %v", err)
	}
	testkit.StartHotpath(t, hotpath.Address)
	restarted := time.Now()
	for {
		_, err := e.Embed(t.Context(), request())
		if err == nil {
			break
		}
		if time.Since(restarted) > patience {
			t.Fatalf("no service %v after the restart: %v", patience, err)
		}
		time.Sleep(maxReconnectDelay / 100)
	}
	if took := time.Since(restarted); took > 3*maxReconnectDelay {
		t.Errorf("service came back after %v", took)
	}
}

func TestAStoppingHotpathLosesNoRequest(t *testing.T) {
	stays, stops := testkit.StartHotpath(t, "127.0.0.1:0"), testkit.StartHotpath(t, "127.0.0.1:0")
	e := newEngine(t, patience, time.Now, stays.Address, stops.Address)
	for len(stops.Calls()) == 0 || len(stays.Calls()) == 0 { // until both are in use
		if _, err := e.Embed(t.Context(), request()); err != nil {
			t.Fatal(err)
		}
	}
	var clients sync.WaitGroup
	var stopping atomic.Bool
	for range 8 {
		clients.Go(func() {
			for after := 0; after < 50; {
				if _, err := e.Embed(t.Context(), request()); err != nil {
					t.Error(err)
				}
				if stopping.Load() {
					after++
				}
			}
		})
	}
	stopping.Store(true)
	stops.GracefulStop()
	clients.Wait()
}

func TestAHotpathThatIsNotReadyIsPassedOver(t *testing.T) {
	ready, loading := testkit.StartHotpath(t, "127.0.0.1:0"), testkit.StartHotpath(t, "127.0.0.1:0")
	model := testkit.Model()
	model.State = inferencev1.ModelState_MODEL_STATE_LOADING
	loading.SetModels(model)
	e := newEngine(t, patience, time.Now, ready.Address, loading.Address)
	e.check(t.Context())
	eventually(t, "both connections", func() bool { return e.pool.replicas()[0].connected() && e.pool.replicas()[1].connected() })
	for range 50 {
		if _, err := e.Embed(t.Context(), request()); err != nil {
			t.Fatal(err)
		}
	}
	if calls := len(loading.Calls()); calls != 0 {
		t.Errorf("%d of 50 calls went to the one that is not ready", calls)
	}
}
