package server

import (
	"context"
	"net/http"
	"testing"

	"triptych.dev/gateway/internal/engine"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/testkit"
)

// BenchmarkTraces is a request without a client, with a hot path that answers at once: without tracing, of traces that are
// left out, and recorded.
func BenchmarkTraces(b *testing.B) {
	for _, c := range []struct {
		name  string
		on    bool
		ratio float64
	}{{"off", false, 0}, {"left out", true, 0}, {"recorded", true, 1}} {
		b.Run(c.name, func(b *testing.B) {
			traced := startTraced(b, c.ratio, func(*engine.Options, *Options) {})
			if !c.on {
				traced.Server.Tracer = nil
			}
			reply, err := testkit.Embed(b.Context(), &inferencev1.EmbedRequest{
				Model: testkit.ModelName, Inputs: repeatInput(1),
				Scheduling: &inferencev1.Scheduling{Priority: inferencev1.Priority_PRIORITY_INTERACTIVE},
			})
			if err != nil {
				b.Fatal(err)
			}
			traced.hotpath.SetEmbed(func(context.Context, *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
				return reply, nil
			})
			principal, err := traced.Authenticator.Authenticate("Bearer " + traced.keys["acme"])
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				done := traced.Execute(b.Context(), Execution{
					Principal: principal, Class: quota.Batch, RequestID: "r", Endpoint: "/v1/embeddings", Body: []byte(oneText),
				})
				if done.Status != http.StatusOK {
					b.Fatalf("got %d %s", done.Status, done.Body)
				}
			}
		})
	}
}
