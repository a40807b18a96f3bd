package redisstore

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/quota/conformance"
	"triptych.dev/gateway/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waits that end long before on any machine.
const patience = 10 * time.Second

// server is a real Redis of a test's own.
type server struct {
	testing.TB
	binary, port string
	flags        []string
	process      *exec.Cmd
}

// startServer starts a redis-server.
func startServer(t testing.TB, flags ...string) *server {
	t.Helper()
	s := &server{TB: t, binary: testkit.RedisServerProgram(t), port: freePort(t), flags: flags}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func freePort(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

func (s *server) start() {
	s.Helper()
	folder := s.TempDir()
	s.process = exec.Command(s.binary, append([]string{
		"--port", s.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder, "--logfile", filepath.Join(folder, "log"),
	}, s.flags...)...)
	if err := s.process.Start(); err != nil {
		s.Fatal(err)
	}
	eventually(s, "redis-server listening", func() bool {
		connection, err := net.Dial("tcp", "127.0.0.1:"+s.port)
		if err == nil {
			connection.Close()
		}
		return err == nil
	})
}

func (s *server) stop() {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Signal(syscall.SIGCONT)
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
	s.process = nil
}

func (s *server) url() string { return "redis://127.0.0.1:" + s.port }

func (s *server) signal(signal os.Signal) {
	s.Helper()
	if err := s.process.Process.Signal(signal); err != nil {
		s.Fatal(err)
	}
}

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// run runs what a store does in the background until the test ends.
func run(t testing.TB, watch func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		watch(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
}

func newStore(t testing.TB, url string, now func() time.Time, log *strings.Builder) *Store {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	if log != nil {
		logger = slog.New(slog.NewTextHandler(log, nil))
	}
	store, err := New(Options{URL: url, Lease: conformance.Lease, Logger: logger, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// prompt is a Store whose settlements and renewals are done when they return, as the suite wants it.
type prompt struct {
	*Store
	sending sync.Mutex
}

func (p *prompt) Settle(reservation quota.Reservation, used int64) {
	p.sending.Lock()
	defer p.sending.Unlock()
	p.Store.Settle(reservation, used)
	p.sendAll(context.Background())
}

func (p *prompt) Renew(reservations []quota.Reservation) {
	p.sending.Lock()
	defer p.sending.Unlock()
	p.Store.Renew(reservations)
	p.sendAll(context.Background())
}

func (p *prompt) Hold(holds []quota.Hold) {
	p.sending.Lock()
	defer p.sending.Unlock()
	p.Store.Hold(holds)
	p.sendAll(context.Background())
}

// settled waits until Redis has taken all that waits for it: of what comes last, it tells.
func settled(t testing.TB, store *Store) {
	t.Helper()
	last := quota.Request{ID: "last", Tenant: "last", Runs: true, Limits: [quota.Scopes]quota.Limits{{ConcurrentRequests: 1}}}
	store.Renew([]quota.Reservation{{Request: last}})
	eventually(t, "the end of the queue", func() bool {
		found, err := store.Look(context.Background(), last)
		return err == nil && found.States[quota.Tenant].Running == 1
	})
}

// open returns an empty store. Nothing sends what waits for it.
func open(t testing.TB, s *server, now func() time.Time) *Store {
	t.Helper()
	store := newStore(t, s.url(), now, nil)
	if err := store.Ping(context.Background()); err != nil {
		t.Fatal(err)
	}
	client, _ := store.current()
	if err := client.Do(context.Background(), client.B().Flushall().Build()).Error(); err != nil {
		t.Fatal(err)
	}
	return store
}

func (s *server) do(store *Store, arguments ...string) rueidis.RedisResult {
	client, err := store.current()
	if err != nil {
		s.Fatal(err)
	}
	return client.Do(context.Background(), client.B().Arbitrary(arguments...).Build())
}

var all = quota.Limits{
	RequestsPerMinute: quota.MaxRequestsPerMinute, TokensPerMinute: quota.MaxTokensPerMinute, TokensPerDay: quota.MaxTokensPerDay,
	ConcurrentRequests: 1000, ConcurrentStreams: 1000,
}

// request is one with every limit, of tenant and key.
func request(id int) quota.Request {
	return quota.Request{
		ID: fmt.Sprint("id-", id), Tenant: "acme", Key: "key", Counted: true, Runs: true, MinTokens: 1, MaxTokens: 100,
		Limits: [quota.Scopes]quota.Limits{all, all},
	}
}
