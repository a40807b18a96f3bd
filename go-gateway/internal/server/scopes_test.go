package server

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/identity"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

// asRestricted sends a request with the key of restrictions.
func (g *gateway) asRestricted(method, path, body string) reply {
	g.Helper()
	return g.do(method, path, body, "Authorization", "Bearer "+g.keys["restricted"])
}

// refusedFor holds that a reply is the refusal for lack of a scope, and names what there is.
func (g *gateway) refusedFor(got reply, scope string) {
	g.Helper()
	if got.status != http.StatusForbidden || got.err.Code != "insufficient_scope" || got.header.Get("www-authenticate") != `Bearer error="insufficient_scope"` ||
		!strings.Contains(got.err.Message, `lacks the scope "`+scope+`"; it has "endpoint:/v1/embeddings", "endpoint:/v1/models"`) {
		g.Errorf("%s: got %d %s", scope, got.status, got.body)
	}
}

func TestAKeyIsGoodForItsEndpointsAlone(t *testing.T) {
	g := startGateway(t)
	if got := g.asRestricted(http.MethodPost, "/v1/embeddings", oneText); got.status != http.StatusOK {
		t.Errorf("got %d %s", got.status, got.body)
	}
	for _, path := range []string{"/v1/tokenize", "/v1/moderations"} {
		g.refusedFor(g.asRestricted(http.MethodPost, path, "no JSON"), "endpoint:"+path)
	}
	// What is about the key itself is every key's, and what is not there is nobody's.
	if got := g.asRestricted(http.MethodGet, "/v1/limits", ""); got.status != http.StatusOK || strings.Contains(string(got.body), "interactive") {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if got := g.asRestricted(http.MethodGet, "/v1/nothing", ""); got.status != http.StatusNotFound {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestAKeyIsGoodForItsModelsAlone(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, options *Options) {
		options.Decoder.Aliases = map[string]string{"small": testkit.ModelName, "other": testkit.ModerationModelName}
	})
	g.eventually("a list of models", func() bool { return g.get("/v1/models").status == http.StatusOK })
	for _, model := range []string{testkit.ModerationModelName, "other", "nothing"} { // be there one or not
		got := g.asRestricted(http.MethodPost, "/v1/embeddings", `{"model":"`+model+`","input":"a"}`)
		g.refusedFor(got, "model:"+g.Decoder.Resolve(model))
		if got.err.Param == nil || *got.err.Param != "model" {
			t.Errorf("got %s", got.body)
		}
		g.refusedFor(g.asRestricted(http.MethodGet, "/v1/models/"+model, ""), "model:"+g.Decoder.Resolve(model))
	}
	if got := g.asRestricted(http.MethodPost, "/v1/embeddings", `{"model":"small","input":"a"}`); got.status != http.StatusOK {
		t.Errorf("by another name: got %d %s", got.status, got.body)
	}
	if got := g.asRestricted(http.MethodGet, "/v1/models/small", ""); got.status != http.StatusOK {
		t.Errorf("got %d %s", got.status, got.body)
	}
	for _, call := range g.hotpath.Calls() {
		if call.Embed != nil && call.Embed.GetModel() != testkit.ModelName {
			t.Errorf("the hot path was asked for %q", call.Embed.GetModel())
		}
	}
}

// restricted makes everybody's key one of these scopes.
func restricted(scopes ...string) change {
	return func(_ *engine.Options, o *Options) {
		parsed, err := identity.ParseScopes(scopes)
		if err != nil {
			panic(err)
		}
		o.Authenticator = someone{Tenant: "acme", KeyID: "key", Scopes: parsed}
	}
}

func TestAKeySeesItsModelsAlone(t *testing.T) {
	for _, c := range []struct {
		scopes []string
		seen   bool
	}{
		{nil, true}, {[]string{"model:" + testkit.ModelName}, true}, {[]string{"model:small"}, true}, {[]string{"model:nothing"}, false},
	} {
		g := startGateway(t, restricted(c.scopes...), func(_ *engine.Options, options *Options) {
			options.Decoder.Aliases = map[string]string{"small": testkit.ModelName}
		})
		g.eventually("a list of models", func() bool { return g.get("/v1/models").status == http.StatusOK })
		if got := g.get("/v1/models"); strings.Contains(string(got.body), `"id":"`+testkit.ModelName+`"`) != c.seen {
			t.Errorf("%v: got %s", c.scopes, got.body)
		}
		got := g.post("/v1/embeddings", `{"model":"nothing","input":"a"}`)
		if mentions := strings.Contains(string(got.body), testkit.ModelName); mentions != (c.scopes == nil || slices.Contains(c.scopes, "model:"+testkit.ModelName)) {
			t.Errorf("%v: got %s", c.scopes, got.body)
		}
	}
}

func TestAKeyOfBatchRunsBehindOthers(t *testing.T) {
	g := startGateway(t)
	g.asRestricted(http.MethodPost, "/v1/embeddings", oneText)
	for _, call := range g.hotpath.Calls() {
		if call.Embed.GetScheduling().GetPriority() == inferencev1.Priority_PRIORITY_BATCH {
			return
		}
	}
	t.Errorf("no call of class batch")
}

func TestEndpointsThatAKeyMayBeRestrictedTo(t *testing.T) {
	got := Endpoints()
	for _, endpoint := range []string{"/v1/embeddings", "/v1/moderations", "/v1/tokenize", "/v1/models"} {
		if !slices.Contains(got, endpoint) {
			t.Errorf("%s is not among %v", endpoint, got)
		}
	}
	for _, endpoint := range got {
		if endpoint == "/v1/limits" || endpoint == livezRoute || strings.Contains(endpoint, "{") {
			t.Errorf("%s is among them", endpoint)
		}
	}
}
