package server

import (
	"net/http"
	"strings"
	"testing"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/testkit"
)

func TestModelsHaveOtherNames(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, options *Options) {
		options.Decoder.Aliases = map[string]string{"text-embedding-3-small": testkit.ModelName, "gone": "absent"}
	})
	g.eventually("a list of models", func() bool { return g.get("/v1/models").status == http.StatusOK })
	if got := g.get("/v1/models/text-embedding-3-small"); got.status != http.StatusOK || !strings.Contains(string(got.body), `"id":"`+testkit.ModelName+`"`) {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if got := g.post("/v1/embeddings", `{"model":"text-embedding-3-small","input":"a"}`); got.status != http.StatusOK || !strings.Contains(string(got.body), `"model":"`+testkit.ModelName+`"`) {
		t.Errorf("got %d %s", got.status, got.body)
	}
	got := g.post("/v1/embeddings", `{"model":"gone","input":"a"}`)
	if want := `There is no model "absent" here; there is "` + testkit.ModelName + `".`; got.status != http.StatusNotFound || got.err.Message != want {
		t.Errorf("got %d %q, want %q", got.status, got.err.Message, want)
	}
}
