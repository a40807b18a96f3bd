package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// backend counts the requests of each key.
type backend struct {
	*httptest.Server
	mu    sync.Mutex
	asked map[string]int
}

func startBackend(t *testing.T, answer http.HandlerFunc) *backend {
	b := &backend{asked: map[string]int{}}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		b.asked[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]++
		b.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(b.Close)
	return b
}

func load(t *testing.T, arguments ...string) *result {
	t.Helper()
	bodies := filepath.Join(t.TempDir(), "bodies")
	if err := os.WriteFile(bodies, []byte("{\"a\": 1}\n{\"a\": 2}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := parsePlan(append(arguments, "--bodies="+bodies))
	if err != nil {
		t.Fatal(err)
	}
	return drive(context.Background(), p)
}

func TestReplies(t *testing.T) {
	b := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer refused" {
			w.WriteHeader(http.StatusTooManyRequests)
		}
		fmt.Fprint(w, "{}")
	})
	found := load(t, "--url="+b.URL+"/path", "--key=good", "--key=refused", "--connections=3", "--duration=100ms")
	good, refused := found.Targets[0]["200"], found.Targets[1]["429"]
	if good == nil || refused == nil || len(found.Targets[0]) != 1 || len(found.Targets[1]) != 1 || found.Failed != 0 {
		t.Fatalf("got %+v", found)
	}
	if good.Count != b.asked["good"] || refused.Count != b.asked["refused"] {
		t.Errorf("got %d and %d of %v", good.Count, refused.Count, b.asked)
	}
	if apart := good.Count - refused.Count; apart < -3 || apart > 3 {
		t.Errorf("targets in turn got %d and %d requests", good.Count, refused.Count)
	}
	if good.P50 <= 0 || good.P99 < good.P50 || good.Max < good.P99 {
		t.Errorf("got %+v", good)
	}
}

func TestStreamIsCountedByItsEvents(t *testing.T) {
	b := startBackend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		for range 5 {
			fmt.Fprint(w, "data: {}\n\n: comment\n\n")
			_ = http.NewResponseController(w).Flush()
		}
		fmt.Fprint(w, "data: [DONE]\n\n")
	})
	found := load(t, "--url="+b.URL, "--key=x", "--duration=20ms").Targets[0]["200"]
	if found.Count == 0 || found.Events != 5*found.Count {
		t.Errorf("got %+v", found)
	}
}

func TestRateIsKeptAndWaitingCounts(t *testing.T) {
	const slow = 40 * time.Millisecond
	b := startBackend(t, func(w http.ResponseWriter, _ *http.Request) { time.Sleep(slow) })
	found := load(t, "--url="+b.URL, "--key=x", "--duration=200ms", "--rate=100", "--connections=100").Targets[0]["200"]
	if found.Count != 20 {
		t.Errorf("got %d requests in 0.2 s at 100 a second", found.Count)
	}
	// One connection takes 40 ms for each, and one is due every 10 ms.
	found = load(t, "--url="+b.URL, "--key=x", "--duration=200ms", "--rate=100", "--connections=1").Targets[0]["200"]
	if found.Count > 6 || found.Max < 2*slow.Seconds()*1e3 {
		t.Errorf("got %+v", found)
	}
}

func TestWarmupDoesNotCount(t *testing.T) {
	b := startBackend(t, func(http.ResponseWriter, *http.Request) {})
	found := load(t, "--url="+b.URL, "--key=x", "--duration=200ms", "--warmup=100ms", "--rate=100", "--connections=20").Targets[0]["200"]
	if found.Count != 10 || b.asked["x"] != 20 {
		t.Errorf("got %d of %v", found.Count, b.asked)
	}
}

func TestServerThatIsGone(t *testing.T) {
	b := startBackend(t, func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) })
	found := load(t, "--url="+b.URL, "--key=x", "--duration=10ms")
	if found.Failed == 0 || found.Failure == "" || len(found.Targets[0]) != 0 {
		t.Errorf("got %+v", found)
	}
}

func TestPercentile(t *testing.T) {
	var latencies []time.Duration
	for i := range 100 {
		latencies = append(latencies, time.Duration(i+1)*time.Millisecond)
	}
	got := []float64{percentile(latencies, 50), percentile(latencies, 99), percentile(latencies, 100), percentile(nil, 50)}
	if !slices.Equal(got, []float64{51, 100, 100, 0}) {
		t.Errorf("got %v", got)
	}
}

func TestFlagsThatMakeNoSense(t *testing.T) {
	const to = "--url=http://127.0.0.1:1/"
	for _, arguments := range [][]string{
		{"--key=x"},
		{to},
		{to, to, "--key=x"},
		{"--url=https://127.0.0.1:1/", "--key=x"},
		{to, "--key=x", "--connections=0"},
		{to, "--key=x", "--connections=1000000"},
		{to, "--key=x", "--duration=1h"},
		{to, "--key=x", "--duration=1s", "--warmup=1s"},
		{to, "--key=x", "--rate=-1"},
		{to, "--key=x", "--bodies=/nowhere"},
		{to, "--key=x", "--bodies=" + os.DevNull},
	} {
		if _, err := parsePlan(arguments); err == nil {
			t.Errorf("%v is taken", arguments)
		}
	}
}
