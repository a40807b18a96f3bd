package server

import (
	"encoding/json"
	"net/http"
	"testing"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/fault"
)

func TestExecuteGenerates(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.MaxInflight = 1 })
	for endpoint, body := range map[string]string{"/v1/chat/completions": oneChat, "/v1/completions": completion(`["a b","c d","e"]`, "")} {
		executed := g.execute("acme", endpoint, body)
		var decoded struct {
			Choices []any
			Usage   struct {
				TotalTokens uint64 `json:"total_tokens"`
			}
		}
		if err := json.Unmarshal(executed.Body, &decoded); err != nil || executed.Status != http.StatusOK || len(decoded.Choices) == 0 {
			t.Fatalf("%d %s, %v", executed.Status, executed.Body, err)
		}
		if used := executed.Usage.PromptTokens + executed.Usage.CompletionTokens; used == 0 || used != decoded.Usage.TotalTokens {
			t.Errorf("%d tokens, where the reply has %d", used, decoded.Usage.TotalTokens)
		}
		if got := g.post(jobsRoute, `{"endpoint":"`+endpoint+`","body":`+streamed(body)+`}`); got.status != http.StatusBadRequest || *got.err.Param != "body.stream" {
			t.Errorf("a job with a stream: %d %s", got.status, got.body)
		}
		if got := g.post(jobsRoute, `{"endpoint":"`+endpoint+`","body":`+body+`}`); got.status != http.StatusAccepted {
			t.Errorf("a job: %d %s", got.status, got.body)
		}
		executed = g.execute("acme", endpoint, streamed(body))
		if executed.Failure == nil || executed.Failure.Reason != fault.UnsupportedParameter || executed.Failure.Param != "stream" {
			t.Errorf("a stream: %d %s", executed.Status, executed.Body)
		}
	}
}
