package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"
)

const testKey = "sk-test-consumer"

// fakeGateway has the part of the job API that the consumer calls, with faults.
type fakeGateway struct {
	*httptest.Server

	mutex sync.Mutex
	keys  map[string]string // jobs by Idempotency-Key
	jobs  map[string]*fakeJob
	calls []time.Time
	// fault answers in place of the API; false: it does not.
	fault func(http.ResponseWriter, *http.Request) bool
	// status is what jobs end in, after so long.
	status string
	takes  time.Duration
}

type fakeJob struct {
	status  string
	created time.Time
	body    string
}

func newGateway(t *testing.T) *fakeGateway {
	t.Helper()
	g := &fakeGateway{keys: map[string]string{}, jobs: map[string]*fakeJob{}, status: "completed", takes: 5 * time.Millisecond}
	routes := http.NewServeMux()
	routes.HandleFunc("POST /v1/jobs", g.create)
	routes.HandleFunc("GET /v1/jobs/{id}", g.get)
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mutex.Lock()
		g.calls = append(g.calls, time.Now())
		fault := g.fault
		g.mutex.Unlock()
		switch {
		case r.Header.Get("Authorization") != "Bearer "+testKey:
			refuse(w, http.StatusUnauthorized, "invalid_api_key")
		case fault == nil || !fault(w, r):
			routes.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(g.Close)
	return g
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"error":{"message":"as the test says","type":"t","code":%q}}`, code)
}

// set changes what it does from now on.
func (g *fakeGateway) set(change func(*fakeGateway)) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	change(g)
}

func (g *fakeGateway) create(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	key := r.Header.Get("Idempotency-Key")
	g.mutex.Lock()
	id, known := g.keys[key]
	if !known {
		id = fmt.Sprintf("job_%d", len(g.jobs)+1)
		g.keys[key], g.jobs[id] = id, &fakeJob{g.status, time.Now(), string(body)}
	}
	reused := g.jobs[id].body != string(body)
	g.mutex.Unlock()
	switch {
	case key == "":
		refuse(w, http.StatusBadRequest, "missing_field")
	case reused:
		refuse(w, http.StatusConflict, "idempotency_key_reused")
	default:
		w.WriteHeader(http.StatusAccepted)
		_, _ = fmt.Fprintf(w, `{"id":%q,"object":"job","status":"queued"}`, id)
	}
}

func (g *fakeGateway) get(w http.ResponseWriter, r *http.Request) {
	seconds, err := strconv.Atoi(r.FormValue("wait"))
	g.mutex.Lock()
	job, takes := g.jobs[r.PathValue("id")], g.takes
	g.mutex.Unlock()
	if job == nil || err != nil {
		refuse(w, http.StatusNotFound, "job_not_found")
		return
	}
	status := job.status
	left := takes - time.Since(job.created)
	if wait := time.Duration(seconds) * time.Second; left > wait {
		left, status = wait, "in_progress"
	}
	select {
	case <-time.After(left):
	case <-r.Context().Done():
		return
	}
	told := map[string]any{"id": r.PathValue("id"), "object": "job", "status": status, "of": job.body}
	if status == "failed" {
		told["response"] = map[string]any{"status_code": 400, "body": map[string]any{"error": map[string]any{"code": "empty_input"}}}
	}
	written, _ := json.Marshal(told)
	_, _ = w.Write(written)
}

// made is how many jobs there are: each is charged once.
func (g *fakeGateway) made() int {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	return len(g.jobs)
}

func (g *fakeGateway) called() int {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	return len(g.calls)
}

// answering is a fault of so many calls, and then none.
func answering(times int, answer func(http.ResponseWriter)) func(http.ResponseWriter, *http.Request) bool {
	var mutex sync.Mutex
	return func(w http.ResponseWriter, _ *http.Request) bool {
		mutex.Lock()
		defer mutex.Unlock()
		if times == 0 {
			return false
		}
		times--
		answer(w)
		return true
	}
}
