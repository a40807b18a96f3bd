package jobs

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		status    int
		code      string
		permanent bool
	}{
		{400, "invalid_value", true}, {403, "insufficient_scope", true}, {404, "model_not_found", true}, {413, "body_too_large", true},
		{413, "", true}, {422, "x", true}, {409, "idempotency_key_reused", true},
		{409, "idempotency_in_flight", false}, {400, "", false}, {404, "", false}, {404, "route_not_found", false}, {401, "invalid_api_key", false},
		{403, "", false}, {408, "body_timeout", false}, {429, "rate_limit_exceeded", false}, {500, "internal_error", false},
		{501, "not_enabled", false}, {503, "queue_full", false}, {507, "storage_full", false}, {302, "", false},
	} {
		if got := (&Refusal{Status: c.status, Code: c.code}).Permanent(); got != c.permanent {
			t.Errorf("%d %q is permanent: %v", c.status, c.code, got)
		}
	}
}

func TestTheKeyIsReadAgainWhenItIsUnknown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write := func(key string) {
		if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer new" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = fmt.Fprint(w, `{"id":"job_1","status":"queued"}`)
	}))
	defer server.Close()
	client, err := New(server.URL+"/v1/", path, http.DefaultTransport)
	if err != nil {
		t.Fatal(err)
	}
	write("new")
	if _, err := client.Create(t.Context(), "k", []byte("{}")); err == nil {
		t.Error("the old key is taken")
	}
	if job, err := client.Create(t.Context(), "k", []byte("{}")); err != nil || job.ID != "job_1" {
		t.Errorf("%+v, %v", job, err)
	}
	if _, err := New(server.URL, filepath.Join(t.TempDir(), "none"), nil); err == nil {
		t.Error("a file that is not there is taken")
	}
}

func TestPauseAndRedirect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	var header http.Header
	status := http.StatusServiceUnavailable
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for name, values := range header {
			w.Header()[name] = values
		}
		w.WriteHeader(status)
	}))
	defer server.Close()
	client, err := New(server.URL, path, http.DefaultTransport)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		header http.Header
		pause  time.Duration
	}{
		{http.Header{}, 0}, {http.Header{"Retry-After": {"3"}}, 3 * time.Second},
		{http.Header{"Retry-After": {"3"}, "Retry-After-Ms": {"2500"}}, 2500 * time.Millisecond},
		{http.Header{"Retry-After": {"1e300"}}, LongestPause}, {http.Header{"Retry-After": {"-1"}}, 0},
		{http.Header{"Retry-After": {"Sat, 28 Nov 2026 20:00:00 GMT"}}, 0},
	} {
		header = c.header
		_, err := client.Await(t.Context(), "job_1", time.Second)
		if refusal, ok := errors.AsType[*Refusal](err); !ok || refusal.Pause != c.pause {
			t.Errorf("%v: %v", c.header, err)
		}
	}
	header, status = http.Header{"Location": {server.URL + "/elsewhere"}}, http.StatusFound
	_, err = client.Create(t.Context(), "k", []byte("{}"))
	if refusal, ok := errors.AsType[*Refusal](err); !ok || refusal.Status != http.StatusFound || refusal.Permanent() {
		t.Errorf("a redirection: %v", err)
	}
}
