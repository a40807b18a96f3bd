package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"triptych.dev/gateway/internal/testkit"
)

// asGateway makes the test binary the gateway itself, for tests of signals.
const asGateway = "TEST_RUN_AS_GATEWAY"

func TestMain(m *testing.M) {
	if os.Getenv(asGateway) != "" {
		main()
	}
	for os.Getenv(createInALoop) != "" {
		if status := run(context.Background(), os.Args[1:], noEnv, os.Stdout, os.Stderr); status != exitOK {
			os.Exit(status)
		}
	}
	goleak.VerifyTestMain(stopping{m})
}

var postgres testkit.SharedPostgres

// stopping are the tests, and the end of what they share.
type stopping struct{ tests *testing.M }

func (s stopping) Run() int {
	defer postgres.Close()
	return s.tests.Run()
}

// patience bounds waits that end long before on any machine.
const patience = 30 * time.Second

func noEnv(string) (string, bool) { return "", false }

// execute runs the program to its end.
func execute(t *testing.T, arguments ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), arguments, noEnv, &out, &errs)
	return status, out.String(), errs.String()
}

// site is a folder with a tenants file, a place for the store, and a fake hot path.
type site struct {
	*testing.T
	store   []string // flags
	tenants string
	hotpath *testkit.Hotpath
}

func newSite(t *testing.T) *site {
	folder := t.TempDir()
	s := &site{t, []string{"--data", filepath.Join(folder, "data")}, filepath.Join(folder, "tenants.yaml"), testkit.StartHotpath(t, "127.0.0.1:0")}
	tenants := "plans: {p: {requests_per_minute: 1000000}}\ntenants: {acme: {plan: p}}\n"
	if err := os.WriteFile(s.tenants, []byte(tenants), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// inPostgres is a site whose store is a database of its own.
func inPostgres(t *testing.T) *site {
	url := postgres.Get(t).NewDatabase(t)
	s := newSite(t)
	s.store = []string{"--database-url", url}
	return s
}

// data is the folder of the store.
func (s *site) data() string { return s.store[1] }

// files are the flags that name the site's files.
func (s *site) files() []string {
	return append([]string{"--tenants-file", s.tenants}, s.store...)
}

// keys runs a command on the site's keys, which must succeed, and returns what it prints.
func (s *site) keys(arguments ...string) string {
	s.Helper()
	flags := s.files()
	if arguments[0] == "list" {
		flags = s.store
	}
	status, stdout, stderr := execute(s.T, slices.Concat([]string{"keys"}, arguments, flags)...)
	if status != exitOK {
		s.Fatalf("%q: %d %s", arguments, status, stderr)
	}
	return strings.TrimSpace(stdout)
}

func (s *site) createKey() string {
	s.Helper()
	return s.keys("create", "--tenant", "acme")
}

// serveArguments start the gateway on free ports, in front of the fake.
func (s *site) serveArguments(extra ...string) []string {
	arguments := append([]string{"serve", "--http-address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0",
		"--hotpath-addresses", s.hotpath.Address, "--canary-interval", "20ms", "--drain-delay", "0s"}, s.files()...)
	return append(arguments, extra...)
}

// served is a running gateway.
type served struct {
	*testing.T
	log    *testkit.Log
	stop   context.CancelFunc
	ended  chan struct{}
	status int // once ended
}

func (s *site) serve(extra ...string) *served {
	s.Helper()
	ctx, stop := context.WithCancel(context.Background())
	g := &served{T: s.T, log: &testkit.Log{}, stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(g.ended)
		g.status = run(ctx, s.serveArguments(extra...), noEnv, io.Discard, g.log)
	}()
	s.Cleanup(func() { stop(); g.exit(); http.DefaultClient.CloseIdleConnections() })
	return g
}

// address returns where a listener listens, from the log.
func address(t *testing.T, log *testkit.Log, listener string) string {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		for line := range strings.Lines(log.String()) {
			var fields struct{ Message, Listener, Address string }
			if json.Unmarshal([]byte(line), &fields) == nil && fields.Message == "listening" && fields.Listener == listener {
				return fields.Address
			}
		}
	}
	t.Fatalf("the %s listener does not listen:\n%s", listener, log)
	return ""
}

// exit waits for the gateway to end.
func (g *served) exit() int {
	g.Helper()
	select {
	case <-g.ended:
		return g.status
	case <-time.After(patience):
		g.Fatalf("still running:\n%s", g.log)
		return 0
	}
}

// embed sends one request and returns its status; 0 if there was no reply.
func embed(address, key string) int {
	body := strings.NewReader(`{"model":"` + testkit.ModelName + `","input":"a"}`)
	request, err := http.NewRequest(http.MethodPost, "http://"+address+"/v1/embeddings", body)
	if err != nil {
		return 0
	}
	request.Header.Set("Authorization", "Bearer "+key)
	return status(request)
}

func get(address, path string) int {
	request, err := http.NewRequest(http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return 0
	}
	return status(request)
}

// getText returns the body of a reply; empty if there was none.
func getText(address, path string) string {
	reply, err := http.Get("http://" + address + path)
	if err != nil {
		return ""
	}
	defer reply.Body.Close()
	text, _ := io.ReadAll(reply.Body)
	return string(text)
}

func status(request *http.Request) int {
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	defer reply.Body.Close()
	if _, err := io.Copy(io.Discard, reply.Body); err != nil {
		return 0
	}
	return reply.StatusCode
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	eventuallyIn(t, patience, what, condition)
}

func eventuallyIn(t *testing.T, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}
