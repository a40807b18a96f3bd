package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"triptych.dev/gateway/internal/blob"
	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/inference"
	"triptych.dev/gateway/internal/openai"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/telemetry"
	"triptych.dev/gateway/internal/testkit"
	"triptych.dev/gateway/internal/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waits that end long before on any machine.
const patience = 10 * time.Second

const tenantsYAML = `
plans:
  generous: {requests_per_minute: 1000000}
  tiny: {requests_per_minute: 20}
  metered: {requests_per_minute: 30, tokens_per_minute: 1000, tokens_per_day: 1500, concurrent_requests: 2, tokens_per_request: 600}
tenants:
  metered: {plan: metered}
  acme: {plan: generous}
  other: {plan: generous}
  tiny: {plan: tiny}
`

// restrictions are the scopes of the key that is restricted.
var restrictions = []string{"endpoint:/v1/embeddings", "endpoint:/v1/models", "model:" + testkit.ModelName, "class:batch"}

// gateway is a server on a free port with a fake hot path behind it.
type gateway struct {
	testing.TB
	*Server
	url     string
	hotpath *testkit.Hotpath
	records *store.Store
	blobs   string            // the folder of files' contents
	keys    map[string]string // by tenant; and one of acme that is restricted
	log     *testkit.Log
	clock   time.Time // of rate limits; it stands still
}

// change alters options before the gateway starts.
type change func(*engine.Options, *Options)

func startGateway(t testing.TB, changes ...change) *gateway {
	t.Helper()
	g := &gateway{TB: t, hotpath: testkit.StartHotpath(t, "127.0.0.1:0"), keys: map[string]string{}, log: &testkit.Log{},
		clock: time.Unix(1_800_000_000, 0)}
	metrics := telemetry.NewMetrics(10_000, time.Now)
	logger := telemetry.NewLogger(g.log, slog.LevelDebug)
	engineOptions := engine.Options{
		Addresses: []string{g.hotpath.Address}, Timeout: patience, GenerationTimeout: patience, CanaryInterval: 20 * time.Millisecond, ReadyWindow: patience,
		Metrics: metrics, Logger: logger, Now: time.Now,
	}
	options := Options{
		Metrics: metrics, Logger: logger, Now: time.Now, Authenticator: g.openDirectory(logger),
		MaxBodyBytes: 8 << 20, MaxInflight: 256, MaxBodiesBytes: 256 << 20, BodyTimeout: patience, WriteTimeout: patience,
		TransferStall: patience, MinTransferRate: 1,
		StreamHeartbeat: time.Minute, Decoder: &openai.Decoder{ModerationModel: testkit.ModerationModelName, MaxTokenizeBytes: engine.MaxTokenizeBytes},
	}
	options.Answers = g.records
	options.Files = g.keepFiles(logger)
	options.Batches = g.keepBatches(options.Files, logger)
	options.Jobs = g.keepJobs(options.Files, logger)
	options.Webhooks = webhook.New(webhook.Options{
		Store: g.records, Guard: webhook.Guard{Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, Workers: 64, Timeout: patience, Now: time.Now, Logger: logger,
	})
	for _, alter := range changes {
		alter(&engineOptions, &options)
	}
	var err error
	if options.Engine, err = engine.New(engineOptions); err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return g.clock }
	options.Inference = &inference.Service{
		Engine: options.Engine, Metrics: metrics, Resolve: options.Decoder.Resolve,
		Limiter: quota.NewLimiter(quota.NewMemory(now, time.Minute), now),
	}
	g.Server = New(options)
	metrics.ReportReady(g.Ready)
	ctx, cancel := context.WithCancel(context.Background())
	var watcher sync.WaitGroup
	watcher.Go(func() { g.Engine.Watch(ctx) })
	listener := httptest.NewServer(g.API())
	g.url = listener.URL
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		listener.Close()
		cancel()
		watcher.Wait()
		_ = g.Engine.Close()
	})
	return g
}

// keepFiles in a folder of the test's own; a file has 4 MiB at most.
func (g *gateway) keepFiles(logger *slog.Logger) *files.Files {
	g.Helper()
	folder, err := blob.OpenFolder(g.blobs)
	if err != nil {
		g.Fatal(err)
	}
	return files.New(files.Options{Store: g.records, Blobs: folder, MaxBytes: 4 << 20, MaxUploads: 8, Now: time.Now, Logger: logger})
}

func (g *gateway) openDirectory(logger *slog.Logger) *identity.Directory {
	g.Helper()
	folder := g.TempDir()
	tenantsPath := filepath.Join(folder, "tenants.yaml")
	if err := os.WriteFile(tenantsPath, []byte(tenantsYAML), 0o600); err != nil {
		g.Fatal(err)
	}
	records, err := store.Open(g.Context(), store.Options{Data: filepath.Join(folder, "data")}, store.Gateway)
	if err != nil {
		g.Fatal(err)
	}
	g.Cleanup(func() { records.Close() })
	g.records, g.blobs = records, filepath.Join(folder, "blobs")
	keys := identity.NewKeys(records, "a test", time.Now, slog.New(slog.DiscardHandler))
	for _, name := range []string{"acme", "other", "tiny", "metered"} {
		key, err := keys.Create(g.Context(), name, 0)
		if err != nil {
			g.Fatal(err)
		}
		g.keys[name] = key.Reveal()
	}
	restricted, err := keys.Create(g.Context(), "acme", 0, restrictions...)
	if err != nil {
		g.Fatal(err)
	}
	g.keys["restricted"] = restricted.Reveal()
	directory, err := identity.Open(g.Context(), records, tenantsPath, time.Now, logger)
	if err != nil {
		g.Fatal(err)
	}
	return directory
}

// limited gives everybody a plan of these limits.
func limited(limits quota.Limits) change {
	return func(_ *engine.Options, o *Options) {
		o.Authenticator = someone{
			Tenant: "acme", KeyID: "key", Plan: identity.Plan{Name: "metered", Tenant: identity.ClassLimits{limits}},
		}
	}
}

// eventually waits until a condition holds.
func (g *gateway) eventually(what string, condition func() bool) {
	g.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			g.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// awaitConnections waits until calls go to every hot path. What is known of one comes over a connection of its own, which
// may be there before.
func (g *gateway) awaitConnections() {
	g.Helper()
	g.eventually("a connection to each hot path", func() bool {
		return !slices.ContainsFunc(g.Engine.Replicas(), func(r engine.ReplicaStatus) bool { return !r.Connected })
	})
}

// reply is an HTTP reply that was read to its end.
type reply struct {
	status int
	header http.Header
	closes bool // the server ends the connection after it
	body   []byte
	err    struct {
		Message, Type, Code string
		Param               *string
	}
}

// do sends a request; headers are name, value, name, value, and so on.
func (g *gateway) do(method, path, body string, headers ...string) reply {
	g.Helper()
	request, err := http.NewRequestWithContext(g.Context(), method, g.url+path, strings.NewReader(body))
	if err != nil {
		g.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	sent, err := http.DefaultClient.Do(request)
	if err != nil {
		g.Fatal(err)
	}
	return g.read(sent)
}

func (g *gateway) read(sent *http.Response) reply {
	g.Helper()
	defer sent.Body.Close()
	got := reply{status: sent.StatusCode, header: sent.Header, closes: sent.Close}
	var err error
	if got.body, err = io.ReadAll(sent.Body); err != nil {
		g.Fatal(err)
	}
	var failed struct {
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal(got.body, &failed) == nil && failed.Error != nil {
		if err := json.Unmarshal(failed.Error, &got.err); err != nil {
			g.Fatal(err)
		}
	}
	return got
}

// post sends JSON with acme's key.
func (g *gateway) post(path, body string, headers ...string) reply {
	g.Helper()
	return g.do(http.MethodPost, path, body, append([]string{"Authorization", "Bearer " + g.keys["acme"]}, headers...)...)
}

func (g *gateway) get(path string) reply {
	g.Helper()
	return g.do(http.MethodGet, path, "", "Authorization", "Bearer "+g.keys["acme"])
}

const oneText = `{"model":"` + testkit.ModelName + `","input":"a"}`

// stillServes fails the test if an ordinary request does not succeed.
func (g *gateway) stillServes() {
	g.Helper()
	g.hotpath.SetEmbed(nil)
	if got := g.post("/v1/embeddings", oneText); got.status != http.StatusOK {
		g.Errorf("afterwards an ordinary request gets %d %s", got.status, got.body)
	}
}

// accessLine returns the log's line of a request.
func (g *gateway) accessLine(requestID string) map[string]any {
	g.Helper()
	var found map[string]any
	g.eventually("a line in the log for "+requestID, func() bool {
		for line := range strings.Lines(g.log.String()) {
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				g.Fatalf("%v in the log's line %q", err, line)
			}
			if fields["request_id"] == requestID {
				found = fields
			}
		}
		return found != nil
	})
	return found
}

// scrape returns the metrics' text.
func (g *gateway) scrape() string {
	g.Helper()
	recorder := httptest.NewRecorder()
	g.Operations().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return recorder.Body.String()
}

// await waits for one event.
func (g *gateway) await(what string, event <-chan struct{}) {
	g.Helper()
	select {
	case <-event:
	case <-time.After(patience):
		g.Fatalf("not within %v: %s", patience, what)
	}
}

// checkTold holds that a call of acme's tells the hot path whose turn it is, and nothing of its key.
func (g *gateway) checkTold(call testkit.Call, request interface {
	GetScheduling() *inferencev1.Scheduling
}) {
	g.Helper()
	scheduling := request.GetScheduling()
	if scheduling.GetFairnessKey() != "acme" || scheduling.GetPriority() != inferencev1.Priority_PRIORITY_INTERACTIVE {
		g.Errorf("scheduling %v", scheduling)
	}
	if strings.Contains(fmt.Sprint(call.Metadata, request), g.keys["acme"]) {
		g.Error("the hot path saw the key")
	}
}

// checkNotLogged holds that the log has no key, and none of some words.
func (g *gateway) checkNotLogged(words string) {
	g.Helper()
	log := g.log.String()
	if strings.Contains(log, words) || strings.Contains(log, g.keys["acme"]) || strings.Contains(log, "trip_") {
		g.Errorf("the log holds what it must not:\n%s", log)
	}
}
