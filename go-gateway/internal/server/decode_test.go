package server

import (
	"net/http"
	"strings"
	"testing"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/testkit"
)

func TestUnknownFieldsAreRefusedTogether(t *testing.T) {
	g := startGateway(t)
	got := g.post("/v1/embeddings", `{"model":"`+testkit.ModelName+`","task":1,"input":"a","normalized":true}`)
	if got.status != http.StatusBadRequest || !strings.Contains(string(got.body), `\"task\", \"normalized\" are not supported`) {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestUnknownFieldsCanBeIgnoredAndAreNamed(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, options *Options) { options.IgnoreUnknownFields = true })
	got := g.post("/v1/embeddings", `{"model":"`+testkit.ModelName+`","task":1,"input":"a","norm\u0000\"é":true}`)
	if want := `299 - "Ignored: 'task', 'norm?x00?'?'"`; got.status != http.StatusOK {
		t.Errorf("got %d %s", got.status, got.body)
	} else if warning := got.header.Get("Warning"); warning != want {
		t.Errorf("got %s, want %s", warning, want)
	}
	if got := g.post("/v1/embeddings", oneText); got.status != http.StatusOK || got.header.Get("Warning") != "" {
		t.Errorf("without any: got %d, %q", got.status, got.header.Get("Warning"))
	}
}
