package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/store"
)

const webhookBody = `{"name":"n","url":%q,"event_types":["batch.completed","batch.failed"]}`

func (g *gateway) askAs(tenant, method, path, body string) reply {
	g.Helper()
	return g.do(method, path, body, "Authorization", "Bearer "+g.keys[tenant])
}

func fields(t *testing.T, got reply) (object map[string]any) {
	t.Helper()
	if err := json.Unmarshal(got.body, &object); err != nil || got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	return object
}

func TestAWebhooksLifeOverHTTP(t *testing.T) {
	g := startGateway(t)
	var signature string
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		signature = r.Header.Get("Webhook-Signature")
		w.WriteHeader(http.StatusTeapot)
	}))
	defer receiver.Close()
	created := fields(t, g.askAs("acme", http.MethodPost, webhooksRoute, fmt.Sprintf(webhookBody, receiver.URL)))
	id, secret := created["id"].(string), created["signing_secret"].(string)
	at := webhooksRoute + "/" + id
	if created["object"] != "webhook_endpoint" || !strings.HasPrefix(secret, "whsec_") || created["enabled"] != true || created["disabled_for"] != nil {
		t.Errorf("%v", created)
	}
	if tested := fields(t, g.askAs("acme", http.MethodPost, at+"/test", `{"event_type":"batch.expired"}`)); tested["status_code"] != 418.0 || strings.Contains(signature, " ") {
		t.Errorf("%v, signed %q", tested, signature)
	}
	rotated := fields(t, g.askAs("acme", http.MethodPost, at+"/rotate_secret", ""))
	if rotated["signing_secret"] == secret || rotated["old_secret_until"].(float64)-rotated["updated_at"].(float64) != 24*3600 {
		t.Errorf("%v", rotated)
	}
	if fields(t, g.askAs("acme", http.MethodPost, at+"/test", `{"event_type":"batch.expired"}`)); len(strings.Fields(signature)) != 2 {
		t.Errorf("signed %q", signature)
	}
	if rotated := fields(t, g.askAs("acme", http.MethodPost, at+"/rotate_secret", `{"keep_old_secret_active_for_24_hours":false}`)); rotated["old_secret_until"] != nil {
		t.Errorf("%v", rotated)
	}
	changed := fields(t, g.askAs("acme", http.MethodPost, at, `{"enabled":false,"event_types":["batch.cancelled"]}`))
	if changed["enabled"] != false || fmt.Sprint(changed["event_types"]) != "[batch.cancelled]" || changed["name"] != "n" {
		t.Errorf("%v", changed)
	}
	one := g.askAs("acme", http.MethodGet, at, "")
	list := g.askAs("acme", http.MethodGet, webhooksRoute+"?limit=1", "")
	for _, got := range []reply{one, list} {
		if strings.Contains(string(got.body), `"signing_secret":`) || got.status != http.StatusOK {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	if deliveries := fields(t, g.askAs("acme", http.MethodGet, at+"/deliveries", "")); len(deliveries["data"].([]any)) != 0 {
		t.Errorf("%v", deliveries)
	}
	if deleted := fields(t, g.askAs("acme", http.MethodDelete, at, "")); deleted["deleted"] != true {
		t.Errorf("%v", deleted)
	}
	if got := g.askAs("acme", http.MethodGet, at, ""); got.status != http.StatusNotFound {
		t.Errorf("%d %s", got.status, got.body)
	}
	if types := fields(t, g.askAs("acme", http.MethodGet, eventTypesRoute, "")); len(types["data"].([]any)) != len(store.EventTypes) {
		t.Errorf("%v", types)
	}
	if logged := g.log.String(); strings.Contains(logged, "whsec_") || strings.Contains(logged, receiver.URL) {
		t.Error("the log has a secret, or a URL")
	}
}

// Every method with the id of another tenant's webhook finds nothing, and changes nothing.
func TestATenantReachesNothingOfAnothersWebhooks(t *testing.T) {
	g := startGateway(t)
	created := fields(t, g.askAs("acme", http.MethodPost, webhooksRoute, fmt.Sprintf(webhookBody, "https://receiver.example")))
	at := webhooksRoute + "/" + created["id"].(string)
	delivery := "/deliveries/" + store.NewID("msg_", time.Now()) + "/replay"
	for path, methods := range map[string][]string{
		"": {http.MethodGet, http.MethodDelete, http.MethodPost}, "/rotate_secret": {http.MethodPost}, "/test": {http.MethodPost},
		"/deliveries": {http.MethodGet}, delivery: {http.MethodPost},
	} {
		for _, method := range methods {
			body := map[string]string{"": `{"enabled":false}`, "/rotate_secret": `{}`, "/test": `{"event_type":"batch.failed"}`}[path]
			if got := g.askAs("metered", method, at+path, body); got.status != http.StatusNotFound || !strings.Contains(string(got.body), "webhook_not_found") {
				t.Errorf("%s %s: %d %s", method, path, got.status, got.body)
			}
		}
	}
	if list := fields(t, g.askAs("metered", http.MethodGet, webhooksRoute, "")); len(list["data"].([]any)) != 0 {
		t.Errorf("%v", list)
	}
	if found := fields(t, g.askAs("acme", http.MethodGet, at, "")); found["enabled"] != true || found["signing_secret_hint"] != created["signing_secret_hint"] {
		t.Errorf("%v", found)
	}
}

func TestATenantHasAFewWebhooksAndNoMore(t *testing.T) {
	g := startGateway(t)
	body := fmt.Sprintf(webhookBody, "https://receiver.example")
	for range 16 {
		fields(t, g.askAs("acme", http.MethodPost, webhooksRoute, body))
	}
	if got := g.askAs("acme", http.MethodPost, webhooksRoute, body); got.status != http.StatusTooManyRequests || !strings.Contains(string(got.body), "16 webhooks") {
		t.Errorf("%d %s", got.status, got.body)
	}
	first := fields(t, g.askAs("acme", http.MethodGet, webhooksRoute+"?limit=10", ""))
	rest := fields(t, g.askAs("acme", http.MethodGet, webhooksRoute+"?limit=10&after="+first["last_id"].(string), ""))
	if first["has_more"] != true || rest["has_more"] != false || len(rest["data"].([]any)) != 6 {
		t.Errorf("%v %v", first["has_more"], rest)
	}
}

func TestAWebhookIsCreatedOnceAKey(t *testing.T) {
	g := startGateway(t)
	body := fmt.Sprintf(webhookBody, "https://receiver.example")
	first := g.post(webhooksRoute, body, keyHeader, "k")
	created := fields(t, first)
	g.checkReplay("repeated", g.post(webhooksRoute, body, keyHeader, "k"), first)
	g.checkReused(g.post(webhooksRoute, strings.Replace(body, "receiver", "other", 1), keyHeader, "k"), `"url"`)
	if list := fields(t, g.get(webhooksRoute)); len(list["data"].([]any)) != 1 || list["first_id"] != created["id"] {
		t.Errorf("%v", list)
	}
}

func TestASecretIsRotatedOnceAKey(t *testing.T) {
	g := startGateway(t)
	rotate := func(of map[string]any) string { return webhooksRoute + "/" + of["id"].(string) + "/rotate_secret" }
	hook, other := fields(t, g.post(webhooksRoute, fmt.Sprintf(webhookBody, "https://a.example"))), fields(t, g.post(webhooksRoute, fmt.Sprintf(webhookBody, "https://b.example")))
	const body = `{"overlap_seconds":60}`
	first := g.post(rotate(hook), body, keyHeader, "k")
	if secret := fields(t, first)["signing_secret"]; first.status != http.StatusOK || secret == "" || secret == hook["signing_secret"] {
		t.Errorf("%d %s", first.status, first.body)
	}
	g.checkReplay("repeated", g.post(rotate(hook), body, keyHeader, "k"), first)
	g.checkReused(g.post(rotate(hook), `{"overlap_seconds":61}`, keyHeader, "k"), `"overlap_seconds"`)
	g.checkReused(g.post(rotate(other), body, keyHeader, "k"), `"the path's id"`)
	if next := g.post(rotate(hook), body, keyHeader, "l"); fields(t, next)["signing_secret"] == fields(t, first)["signing_secret"] {
		t.Errorf("%s", next.body)
	}
}
