package server

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/quota"
)

// execute runs a request without a client, by the key of a name, in the class batch.
func (g *gateway) execute(key, endpoint, body string) Executed {
	g.Helper()
	principal, err := g.Authenticator.Authenticate("Bearer " + g.keys[key])
	if err != nil {
		g.Fatal(err)
	}
	return g.Execute(g.Context(), Execution{
		Principal: principal, Class: quota.Batch, RequestID: "executed", Endpoint: endpoint, Body: []byte(body),
	})
}

// What is refused by HTTP is refused in the same words without it.
func TestExecuteRefusesAsTheEndpointDoes(t *testing.T) {
	sameAs := map[string]bool{"": true, "restricted_key": true, "full_queue": true, "hotpath_down": true, "model_not_ready": true, "fake_hotpath": true}
	compared, retryable := 0, 0
	shared := startGateway(t)
	for _, c := range errorCases(t) {
		isCall := c.HTTP != nil && len(c.HTTP.Headers) == 0 && shared.keys[c.HTTP.Key] != "" && shared.CallsModel(c.HTTP.Path)
		if !isCall || !sameAs[c.Needs] || c.Reason == string(fault.MethodNotAllowed) || strings.Contains(c.body(t), `"stream":true`) {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			g := shared
			if c.Needs != "" {
				g = conditions[c.Needs](t, c)
			}
			byHTTP := g.do(c.HTTP.Method, c.HTTP.Path, c.body(t), append(g.caseHeaders(c), "X-Request-Id", "executed")...)
			executed := g.execute(c.HTTP.Key, c.HTTP.Path, c.body(t))
			if executed.Status != byHTTP.status || executed.Failure == nil || string(executed.Failure.Reason) != c.Reason {
				t.Errorf("%d %v by itself, %d by HTTP", executed.Status, executed.Failure, byHTTP.status)
			}
			if !bytes.Equal(executed.Body, byHTTP.body) {
				t.Errorf("by itself %s\nby HTTP %s", executed.Body, byHTTP.body)
			}
			compared++
			if executed.NoRoom() {
				retryable++
				if byHTTP.header.Get("Retry-After") == "" {
					t.Error("taken for a lack of room, which HTTP does not")
				}
			}
		})
	}
	if compared < 40 || retryable < 1 {
		t.Errorf("only %d cases were compared, of which %d may be repeated", compared, retryable)
	}
}

func TestExecuteIsTheEndpointInTheClassBatch(t *testing.T) {
	g := startGateway(t)
	for endpoint, body := range map[string]string{"/v1/embeddings": oneText, "/v1/moderations": `{"input":"hate"}`} {
		byHTTP := g.post(endpoint, body)
		executed := g.execute("acme", endpoint, body)
		if endpoint == "/v1/embeddings" && !bytes.Equal(executed.Body, byHTTP.body) {
			t.Errorf("by itself %s\nby HTTP %s", executed.Body, byHTTP.body)
		}
		if executed.Status != http.StatusOK || executed.Failure != nil || executed.Usage.PromptTokens == 0 || executed.NoRoom() {
			t.Errorf("%s: %+v", endpoint, executed)
		}
	}
	calls := g.hotpath.Calls()
	embed := calls[1].Embed
	if calls[0].Embed == nil { // a map has no order
		embed = calls[3].Embed
	}
	if scheduling := embed.GetScheduling(); scheduling.GetPriority() != inferencev1.Priority_PRIORITY_BATCH || scheduling.GetFairnessKey() != "acme" {
		t.Errorf("scheduled as %v", scheduling)
	}
	if metrics := g.scrape(); !strings.Contains(metrics, `route="/v1/embeddings",status="200"} 1`) {
		t.Errorf("counted among HTTP's requests:\n%s", metrics)
	}
	if line := g.accessLine("executed"); line["level"] != "DEBUG" || line["tenant"] != "acme" {
		t.Errorf("logged as %v", line)
	}
}

func TestExecuteNeedsNoSlotAndKeepsToTheLimitsOfItsClass(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, o *Options) {
		o.MaxInflight = 1
		plan := identity.Plan{Name: "metered"}
		plan.Tenant[quota.Batch] = quota.Limits{RequestsPerMinute: 1, TokensPerMinute: 1000}
		o.Authenticator = someone{Tenant: "acme", KeyID: "key", Plan: plan}
	})
	began, release := g.hotpath.Block()
	done := make(chan struct{})
	go func() { defer close(done); g.post("/v1/embeddings", oneText) }()
	g.await("a request that takes the only slot", began)
	executed := g.execute("acme", "/v1/moderations", `{"input":"hate"}`)
	if executed.Status != http.StatusOK {
		t.Errorf("%d %s", executed.Status, executed.Body)
	}
	executed = g.execute("acme", "/v1/moderations", `{"input":"hate"}`)
	if executed.Failure == nil || executed.Failure.Reason != fault.RateLimited || executed.Failure.RetryAfter <= 0 || !executed.NoRoom() {
		t.Errorf("one more than the class allows: %+v", executed)
	}
	close(release)
	<-done
}

func TestExecuteServesOnlyModelsAndContainsPanics(t *testing.T) {
	g := startGateway(t)
	for _, endpoint := range []string{"/v1/models", "/v1/limits", "/nowhere", ""} {
		if executed := g.execute("acme", endpoint, "{}"); executed.Status != http.StatusNotFound || g.CallsModel(endpoint) {
			t.Errorf("%q: %d %s", endpoint, executed.Status, executed.Body)
		}
	}
	g.Server.calls["/panics"] = func(*exchange) error { panic("poison") }
	if executed := g.execute("acme", "/panics", ""); executed.Status != http.StatusInternalServerError || executed.NoRoom() {
		t.Errorf("%+v", executed)
	}
}

func TestExecuteEndsWithItsContext(t *testing.T) {
	g := startGateway(t)
	g.hotpath.SetEmbed(hang)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	executed := g.Execute(ctx, Execution{Principal: identity.Principal{Tenant: "acme"}, Endpoint: "/v1/embeddings", Body: []byte(oneText)})
	if executed.Failure == nil || executed.Failure.Reason != fault.Cancelled {
		t.Errorf("%+v", executed)
	}
}
