package server

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"triptych.dev/gateway/internal/adminapi"
	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/store"
)

const adminToken = "0123456789abcdef0123456789abcdef"

// startAdmin serves the admin API of a gateway of few requests at once, and returns it as it is asked with the token.
func startAdmin(t *testing.T, changes ...func(*AdminOptions)) (g, admin *gateway) {
	g = startGateway(t, func(_ *engine.Options, o *Options) { o.MaxInflight = 1 })
	folder := t.TempDir()
	path := filepath.Join(folder, "token")
	if err := os.WriteFile(path, []byte(adminToken), 0o600); err != nil {
		t.Fatal(err)
	}
	token, err := identity.OpenAdminToken(t.Context(), path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	records, err := store.Open(t.Context(), store.Options{Data: filepath.Join(folder, "data")}, store.Gateway)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { records.Close() })
	directory := g.Authenticator.(*identity.Directory)
	options := AdminOptions{
		Token: token, Store: records, Tenant: directory.Tenant, Guest: directory.Guest, SubjectID: directory.SubjectID,
		Keys:    func(by string) *identity.Keys { return identity.NewKeys(records, by, time.Now, g.Logger) },
		Started: time.Now().Add(-time.Minute), Now: time.Now,
		Stale: func(time.Time) map[string]time.Duration {
			return map[string]time.Duration{"keys": 2 * time.Second, "tenants": 0}
		},
		Connections: func() []adminapi.Connection {
			return []adminapi.Connection{{Listener: "http", Share: adminapi.Share{Used: 3, Max: 7}}}
		},
	}
	for _, alter := range changes {
		alter(&options)
	}
	admin = &gateway{TB: t, records: records, Server: g.Server, url: startHandler(t, g.Admin(options)), keys: map[string]string{"acme": adminToken}, log: g.log}
	return g, admin
}

func TestEveryRouteOfTheAdminAPINeedsItsToken(t *testing.T) {
	g, admin := startAdmin(t)
	for _, route := range []string{
		"POST /admin/v1/keys", "GET /admin/v1/keys", "GET /admin/v1/keys/aaaaaaaa", "POST /admin/v1/keys/aaaaaaaa/rotate",
		"POST /admin/v1/keys/aaaaaaaa/revoke", "GET /admin/v1/limits", "GET /admin/v1/overview", "GET /admin/v1/audit",
	} {
		method, path, _ := strings.Cut(route, " ")
		if got := admin.do(method, path, ""); got.status != 401 || got.err.Code != "missing_api_key" {
			t.Errorf("%s: got %d %s", route, got.status, got.body)
		}
		if got := admin.do(method, path, "", "Authorization", "Bearer "+g.keys["acme"]); got.status != 401 || got.err.Code != "invalid_api_key" {
			t.Errorf("%s with a tenant's key: got %d %s", route, got.status, got.body)
		}
		if got := g.do(method, path, "", "Authorization", "Bearer "+adminToken); got.status != 404 {
			t.Errorf("%s of the API: got %d %s", route, got.status, got.body)
		}
	}
	if got := g.do("GET", "/v1/models", "", "Authorization", "Bearer "+adminToken); got.status != 401 {
		t.Errorf("the token opens the API: %d %s", got.status, got.body)
	}
}

func TestLimitsOfOneCallerAtATime(t *testing.T) {
	_, admin := startAdmin(t) // which takes no tokens
	for query, param := range map[string]string{
		"tenant=acme&subject=a&key=aaaaaaaa": "subject", "tenant=acme&subject=a": "subject",
		"tenant=acme&key=jwt_0123456789abcdef01234567": "key", "subject=a": "tenant",
	} {
		if got := admin.get("/admin/v1/limits?" + query); got.status != http.StatusBadRequest || got.err.Param == nil || *got.err.Param != param {
			t.Errorf("%s: got %d %s", query, got.status, got.body)
		}
	}
}

func TestTheAdminAPIAnswersWhileTheAPIIsFull(t *testing.T) {
	g, admin := startAdmin(t)
	began, release := g.hotpath.Block()
	done := make(chan reply)
	go func() { done <- g.post("/v1/embeddings", oneText) }()
	g.await("a request that runs", began)
	if got := g.get("/v1/models"); got.status != http.StatusServiceUnavailable {
		t.Errorf("the API: got %d %s", got.status, got.body)
	}
	if got := admin.get("/admin/v1/limits?tenant=acme"); got.status != http.StatusOK {
		t.Errorf("the admin API: got %d %s", got.status, got.body)
	}
	close(release)
	if got := <-done; got.status != http.StatusOK {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestAKeyIsShownOnceAndNeverLogged(t *testing.T) {
	_, admin := startAdmin(t)
	var made struct{ ID, Key string }
	got := admin.post("/admin/v1/keys", `{"tenant":"acme"}`)
	if err := json.Unmarshal(got.body, &made); err != nil || made.Key == "" || got.header.Get("cache-control") != "no-store" {
		t.Fatalf("got %d %s, %v", got.status, got.body, err)
	}
	secret := strings.Split(made.Key, "_")[2]
	for _, path := range []string{"/admin/v1/keys", "/admin/v1/keys/" + made.ID, "/admin/v1/audit"} {
		if got := admin.get(path); got.status != http.StatusOK || !strings.Contains(string(got.body), made.ID) || strings.Contains(string(got.body), secret) {
			t.Errorf("%s: got %d %s", path, got.status, got.body)
		}
	}
	if log := admin.log.String(); strings.Contains(log, secret) || strings.Contains(log, adminToken) || !strings.Contains(log, `"message":"audit","by":"admin, 127.0.0.1:`) {
		t.Errorf("the log is\n%s", log)
	}
}

// A key is made, and rotated, once for an Idempotency-Key. Its secret is kept nowhere, so a repetition is told of the key alone.
func TestAKeyIsMadeOnceForItsIdempotencyKey(t *testing.T) {
	_, admin := startAdmin(t)
	const keys = "/admin/v1/keys"
	ids := map[string]bool{}
	once := func(path, body, key string) string {
		t.Helper()
		first, again := admin.post(path, body, keyHeader, key), admin.post(path, body, keyHeader, key)
		var made, repeated struct{ ID, Key string }
		if err := errors.Join(json.Unmarshal(first.body, &made), json.Unmarshal(again.body, &repeated)); err != nil || made.Key == "" || ids[made.ID] {
			t.Fatalf("%s: %d %s, %v", path, first.status, first.body, err)
		}
		if again.status != http.StatusOK || repeated.ID != made.ID || repeated.Key != "" || again.header.Get("Idempotent-Replayed") != "true" || again.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s again: %d %s %v", path, again.status, again.body, again.header)
		}
		route := keys
		if path != keys {
			route += "/{id}/rotate"
		}
		answer, err := admin.records.FindAnswer(t.Context(), "", route, key)
		if err != nil || strings.Contains(string(answer.Body)+answer.Request, strings.Split(made.Key, "_")[2]) || !strings.Contains(string(answer.Body), made.ID) {
			t.Errorf("%s is kept: %s, %v", path, answer.Body, err)
		}
		ids[made.ID] = true
		return made.ID
	}
	first := once(keys, `{"tenant":"acme"}`, "a")
	second := once(keys, `{"tenant":"acme"}`, "b")
	once(keys+"/"+first+"/rotate", `{"overlap_seconds":0}`, "a")
	admin.checkReused(admin.post(keys, `{"tenant":"globex"}`, keyHeader, "a"), `"tenant"`)
	admin.checkReused(admin.post(keys+"/"+second+"/rotate", `{"overlap_seconds":0}`, keyHeader, "a"), `"the path's id"`)
	if got := admin.post(keys+"/"+second+"/revoke", ``); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := admin.post(keys, `{"tenant":"acme"}`, keyHeader, "b"); got.status != http.StatusOK || got.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("after it was revoked: %d %s", got.status, got.body)
	}
	if list := admin.get(keys); strings.Count(string(list.body), `"object":"api_key"`) != len(ids) {
		t.Errorf("%d were made: %s", len(ids), list.body)
	}
}

func TestARotatedKeyMayHaveOtherScopes(t *testing.T) {
	_, admin := startAdmin(t)
	made := func(path, body string) (key adminapi.Key) {
		t.Helper()
		got := admin.post(path, body)
		if err := json.Unmarshal(got.body, &key); err != nil || got.status != http.StatusOK {
			t.Fatalf("%s: %d %s", body, got.status, got.body)
		}
		return key
	}
	key := made("/admin/v1/keys", `{"tenant":"acme","scopes":["class:batch"]}`)
	for _, c := range []struct{ body, want string }{
		{`{"overlap_seconds":0}`, "class:batch"}, {`{"scopes":["model:m"]}`, "model:m"}, {``, "model:m"}, {`{"scopes":[]}`, ""},
	} {
		key = made("/admin/v1/keys/"+key.ID+"/rotate", c.body)
		if got := strings.Join(key.Scopes, " "); got != c.want {
			t.Errorf("%s gave %q", c.body, got)
		}
	}
	if got := admin.post("/admin/v1/keys/"+key.ID+"/rotate", `{"scopes":["no such"]}`); got.status != http.StatusBadRequest {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// Of those who rotate a key in two gateways at once, under one Idempotency-Key, one has the secret, and nobody another key.
func TestAKeyIsRotatedOnceByTwoGateways(t *testing.T) {
	var options AdminOptions
	g, admin := startAdmin(t, func(own *AdminOptions) { options = *own })
	other := *admin
	other.url = startHandler(t, g.Admin(options))
	var old struct{ ID string }
	if err := json.Unmarshal(admin.post("/admin/v1/keys", `{"tenant":"acme"}`).body, &old); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	secrets, ids := map[string]bool{}, map[string]bool{}
	var asking sync.WaitGroup
	for i := range 16 {
		asking.Go(func() {
			for {
				got := []*gateway{admin, &other}[i%2].post("/admin/v1/keys/"+old.ID+"/rotate", ``, keyHeader, "k")
				if got.status == http.StatusConflict && strings.Contains(string(got.body), "idempotency") { // it is under way, or has just ended
					continue
				}
				var made struct{ ID, Key string }
				if err := json.Unmarshal(got.body, &made); err != nil || got.status != http.StatusOK {
					t.Errorf("%d %s", got.status, got.body)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				ids[made.ID] = true
				if made.Key != "" {
					secrets[made.Key] = true
				}
				return
			}
		})
	}
	asking.Wait()
	if len(ids) != 1 || len(secrets) != 1 {
		t.Errorf("%d keys, %d secrets", len(ids), len(secrets))
	}
}

// boundedStore tells whether answers are looked for within a time.
type boundedStore struct {
	AdminStore
	unbounded atomic.Int64
}

func (s *boundedStore) FindAnswer(ctx context.Context, tenant, route, key string) (store.Answer, error) {
	if _, is := ctx.Deadline(); !is {
		s.unbounded.Add(1)
	}
	return s.AdminStore.FindAnswer(ctx, tenant, route, key)
}

func TestAStoreThatDoesNotAnswerKeepsNoRepetitionForLong(t *testing.T) {
	var kept *boundedStore
	_, admin := startAdmin(t, func(options *AdminOptions) {
		kept = &boundedStore{AdminStore: options.Store}
		options.Store = kept
	})
	if got := admin.post("/admin/v1/keys", `{"tenant":"acme"}`, keyHeader, "k"); got.status != http.StatusOK || kept.unbounded.Load() != 0 {
		t.Errorf("%d %s; an answer is waited for without end", got.status, got.body)
	}
}

func TestLimitsOfAnyTenant(t *testing.T) {
	g, admin := startAdmin(t)
	for range 21 {
		g.do("GET", "/v1/models", "", "Authorization", "Bearer "+g.keys["tiny"])
	}
	var report struct {
		Tenant, Plan string
		Refusals     []struct{ Limit, Key string } `json:"recent_refusals"`
	}
	got := admin.get("/admin/v1/limits?tenant=tiny")
	if err := json.Unmarshal(got.body, &report); err != nil || report.Tenant != "tiny" || len(report.Refusals) != 1 ||
		report.Refusals[0].Limit != "requests_per_minute" || report.Refusals[0].Key != strings.Split(g.keys["tiny"], "_")[1] {
		t.Errorf("got %d %s, %v", got.status, got.body, err)
	}
	if got := admin.get("/admin/v1/limits?tenant=acme"); !strings.Contains(string(got.body), `"recent_refusals":[]`) {
		t.Errorf("of another tenant: got %s", got.body)
	}
}
