package main

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"triptych.dev/gateway/internal/testkit"
)

func TestServeAnswersAndStops(t *testing.T) {
	site := newSite(t)
	key := site.createKey()
	g := site.serve()
	api, operations := address(t, g.log, "http"), address(t, g.log, "metrics")
	eventually(t, "ready", func() bool { return get(api, "/readyz") == http.StatusOK })
	for path, want := range map[string]int{"/livez": 200, "/readyz": 200, "/metrics": 200} {
		if got := get(operations, path); got != want {
			t.Errorf("metrics listener: %s: %d", path, got)
		}
	}
	if got := embed(api, key); got != http.StatusOK {
		t.Errorf("got %d", got)
	}
	if status, _, stderr := execute(t, "healthcheck", "--metrics-address", operations); status != exitOK {
		t.Errorf("healthcheck: %d %s", status, stderr)
	}
	site.hotpath.Stop()
	eventually(t, "not ready", func() bool { return get(api, "/readyz") == http.StatusServiceUnavailable })
	if status, _, stderr := execute(t, "healthcheck", "--metrics-address", operations); status != exitFailed || !strings.Contains(stderr, "not ready") {
		t.Errorf("healthcheck: %d %s", status, stderr)
	}
	g.stop()
	if status := g.exit(); status != exitOK {
		t.Errorf("exit status %d:\n%s", status, g.log)
	}
	if status, _, _ := execute(t, "healthcheck", "--metrics-address", operations); status != exitFailed {
		t.Errorf("healthcheck of nothing: %d", status)
	}
	if digest := sha256.Sum256([]byte(key)); strings.Contains(g.log.String(), key) || strings.Contains(g.log.String(), hex.EncodeToString(digest[:])) {
		t.Error("the log holds the key, or its hash")
	}
}

func TestAFreshStartMakesTheStoreAndSaysThatThereIsNoKey(t *testing.T) {
	site := newSite(t)
	g := site.serve()
	api := address(t, g.log, "http")
	for _, part := range []string{`"act":"data migrated","from":0`, "there is no API key yet"} {
		if !strings.Contains(g.log.String(), part) {
			t.Errorf("%q is missing from\n%s", part, g.log)
		}
	}
	key := site.createKey()
	eventually(t, "the first key", func() bool { return embed(api, key) == http.StatusOK })
}

func TestKeysChangeWithoutARestart(t *testing.T) {
	site := newSite(t)
	first := site.createKey()
	g := site.serve()
	api := address(t, g.log, "http")
	second := site.createKey()
	eventually(t, "the new key", func() bool { return embed(api, second) == http.StatusOK })
	if err := os.WriteFile(site.tenants, []byte("plans: ["), 0o600); err != nil { // which keeps no key alive
		t.Fatal(err)
	}
	operations := address(t, g.log, "metrics")
	eventually(t, "the broken file in the metrics", func() bool {
		text := getText(operations, "/metrics")
		return strings.Contains(text, `gateway_source_stale_seconds{source="keys"} 0`) &&
			strings.Contains(text, `gateway_source_stale_seconds{source="tenants"}`) && !strings.Contains(text, `gateway_source_stale_seconds{source="tenants"} 0`+"\n")
	})
	site.keys("revoke", strings.Split(first, "_")[1])
	eventually(t, "the end of the revoked key", func() bool { return embed(api, first) == http.StatusUnauthorized })
	if got := embed(api, second); got != http.StatusOK {
		t.Errorf("the other key: %d", got)
	}
}

func TestDrainWaitsForAcceptedRequests(t *testing.T) {
	site := newSite(t)
	key := site.createKey()
	g := site.serve()
	api := address(t, g.log, "http")
	eventually(t, "ready", func() bool { return get(api, "/readyz") == http.StatusOK })
	began, release := site.hotpath.Block()
	result := make(chan int, 1)
	go func() { result <- embed(api, key) }()
	<-began
	g.stop()
	eventually(t, "the end of listening", func() bool {
		connection, err := net.Dial("tcp", api)
		if err == nil {
			connection.Close()
		}
		return err != nil
	})
	close(release)
	if got := <-result; got != http.StatusOK {
		t.Errorf("the accepted request got %d", got)
	}
	if status := g.exit(); status != exitOK {
		t.Errorf("exit status %d", status)
	}
}

func TestDrainSaysNotReadyWhileItStillServes(t *testing.T) {
	site := newSite(t)
	key := site.createKey()
	g := site.serve("--drain-delay", "2s")
	api := address(t, g.log, "http")
	eventually(t, "ready", func() bool { return get(api, "/readyz") == http.StatusOK })
	g.stop()
	eventually(t, "not ready", func() bool { return get(api, "/readyz") == http.StatusServiceUnavailable })
	if got := embed(api, key); got != http.StatusOK {
		t.Errorf("a request before the end of listening got %d", got)
	}
}

func TestStoppingUnderLoadLosesNoRequest(t *testing.T) {
	site := newSite(t)
	key := site.createKey()
	g := site.serve("--drain-delay", "200ms")
	api := address(t, g.log, "http")
	eventually(t, "ready", func() bool { return get(api, "/readyz") == http.StatusOK })
	var clients sync.WaitGroup
	var answered atomic.Int64
	var leave atomic.Bool // clients leave when the gateway says that it is not ready, as behind a balancer
	for range 8 {
		clients.Go(func() {
			for !leave.Load() {
				if got := embed(api, key); got != http.StatusOK {
					t.Errorf("got %d", got)
				}
				answered.Add(1)
			}
		})
	}
	eventually(t, "load", func() bool { return answered.Load() > 100 })
	g.stop()
	eventually(t, "not ready", func() bool { return get(api, "/readyz") != http.StatusOK })
	leave.Store(true)
	clients.Wait()
	if status := g.exit(); status != exitOK {
		t.Errorf("exit status %d", status)
	}
}

func TestDrainIsBounded(t *testing.T) {
	site := newSite(t)
	key := site.createKey()
	g := site.serve("--drain-timeout", "50ms")
	began, _ := site.hotpath.Block()
	result := make(chan int, 1)
	go func() { result <- embed(address(t, g.log, "http"), key) }()
	<-began
	g.stop()
	if status := g.exit(); status != exitFailed || !strings.Contains(g.log.String(), "requests were cut off") {
		t.Errorf("exit status %d:\n%s", status, g.log)
	}
	if got := <-result; got == http.StatusOK {
		t.Error("the request was not cut off: this test proves nothing")
	}
}

// process starts the gateway as a process of its own.
func (s *site) process(extra ...string) (*exec.Cmd, *testkit.Log) {
	s.Helper()
	return s.start(os.Args[0], extra...)
}

func (s *site) start(program string, extra ...string) (*exec.Cmd, *testkit.Log) {
	s.Helper()
	child := exec.Command(program, s.serveArguments(extra...)...)
	child.Env = append(os.Environ(), asGateway+"=1")
	log := &testkit.Log{}
	child.Stdout, child.Stderr = io.Discard, log
	if err := child.Start(); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = child.Process.Kill() })
	return child, log
}

func (s *site) signal(child *exec.Cmd, signal os.Signal) {
	s.Helper()
	if err := child.Process.Signal(signal); err != nil {
		s.Fatal(err)
	}
}

func TestTheFirstSignalDrains(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		site := newSite(t)
		site.createKey()
		child, log := site.process()
		address(t, log, "http")
		site.signal(child, signal)
		if err := child.Wait(); err != nil || !strings.Contains(log.String(), `"message":"stopped"`) {
			t.Errorf("%v: %v\n%s", signal, err, log)
		}
	}
}

func TestTheSecondSignalEndsTheProcess(t *testing.T) {
	site := newSite(t)
	site.createKey()
	child, log := site.process("--drain-delay", "1h")
	address(t, log, "http")
	site.signal(child, syscall.SIGTERM)
	eventually(t, "draining", func() bool { return strings.Contains(log.String(), `"message":"draining"`) })
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	// The first signal's handler is taken down beside the drain, so the second signal may have to be repeated.
	for deadline := time.Now().Add(patience); ; {
		_ = child.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
			if status := child.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() {
				t.Errorf("ended with %v", child.ProcessState)
			}
			return
		case <-time.After(10 * time.Millisecond):
			if time.Now().After(deadline) {
				t.Fatal("the second signal is ignored")
			}
		}
	}
}
