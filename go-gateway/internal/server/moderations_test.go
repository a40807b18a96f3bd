package server

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"triptych.dev/gateway/internal/testkit"
)

func TestModerations(t *testing.T) {
	g := startGateway(t)
	got := g.post("/v1/moderations", `{"input":["hate","kind words","kill kill kill kill"]}`, "X-Request-Id", "judged")
	var decoded struct {
		ID, Model string
		Results   []struct {
			Flagged    bool
			Categories map[string]bool
			Scores     map[string]float64 `json:"category_scores"`
		}
	}
	if err := json.Unmarshal(got.body, &decoded); err != nil || got.status != http.StatusOK || len(decoded.Results) != 3 {
		t.Fatalf("got %d %s, %v", got.status, got.body, err)
	}
	if !strings.HasPrefix(decoded.ID, "modr-") || decoded.ID == "modr-judged" || decoded.Model != testkit.ModerationModelName {
		t.Errorf("got %s", got.body)
	}
	for i, want := range []struct{ flagged, hate, violence bool }{{true, true, false}, {false, false, false}, {true, false, true}} {
		result := decoded.Results[i]
		if result.Flagged != want.flagged || result.Categories["hate"] != want.hate || result.Categories["violence"] != want.violence || len(result.Scores) != 13 {
			t.Errorf("result %d: %+v", i, result)
		}
	}
	if line := g.accessLine("judged"); line["model"] != testkit.ModerationModelName || line["tokens"] != 13.0 {
		t.Errorf("logged as %v", line)
	}
	if got := g.post("/v1/moderations", `{"input":"a","model":"all-minilm-l6-v2"}`); got.err.Code != "model_task_mismatch" {
		t.Errorf("got %s", got.body)
	}
}
