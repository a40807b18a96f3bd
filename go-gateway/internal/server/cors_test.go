package server

import (
	"net/http"
	"strings"
	"testing"

	"triptych.dev/gateway/internal/engine"
)

const pageOrigin = "https://chat.example.com"

func TestPagesOfSomeOriginsMayCall(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, options *Options) { options.CORSOrigins = []string{"https://*.example.com"} })
	preflight := func(origin string) reply {
		return g.do(http.MethodOptions, "/v1/embeddings", "", "Origin", origin, "Access-Control-Request-Method", "POST",
			"Access-Control-Request-Headers", "authorization,content-type,x-stainless-lang")
	}
	if got := preflight(pageOrigin); got.status != http.StatusNoContent || got.header.Get("Access-Control-Allow-Origin") != pageOrigin ||
		got.header.Get("Access-Control-Allow-Methods") != "POST" || got.header.Get("Access-Control-Max-Age") != "3600" ||
		!strings.Contains(got.header.Get("Access-Control-Allow-Headers"), "x-stainless-lang") {
		t.Errorf("got %d %v", got.status, got.header)
	}
	if got := preflight("https://example.org"); got.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("another origin: got %v", got.header)
	}
	for name, got := range map[string]reply{
		"a reply":  g.post("/v1/embeddings", oneText, "Origin", pageOrigin),
		"an error": g.do(http.MethodPost, "/v1/embeddings", oneText, "Origin", pageOrigin), // without a key
		"no path":  g.do(http.MethodGet, "/v2", "", "Origin", pageOrigin),
	} {
		if got.header.Get("Access-Control-Allow-Origin") != pageOrigin || !strings.Contains(got.header.Get("Access-Control-Expose-Headers"), "X-Request-Id") {
			t.Errorf("%s: got %d %v", name, got.status, got.header)
		}
	}
}

func TestPagesMayNotCallUnlessTheyAreNamed(t *testing.T) {
	g := startGateway(t)
	got := g.do(http.MethodOptions, "/v1/embeddings", "", "Origin", pageOrigin, "Access-Control-Request-Method", "POST")
	if got.status != http.StatusMethodNotAllowed || got.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("got %d %v", got.status, got.header)
	}
}
