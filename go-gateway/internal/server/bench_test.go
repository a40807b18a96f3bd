package server

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

// BenchmarkEmbeddings is what the gateway adds, over real sockets on both sides, to a hot path that answers at once.
func BenchmarkEmbeddings(b *testing.B) {
	for _, inputs := range []int{1, 32} {
		for _, format := range []string{"base64", "float"} {
			b.Run(fmt.Sprintf("%s/%d", format, inputs), func(b *testing.B) {
				g := startGateway(b)
				reply, err := testkit.Embed(b.Context(), &inferencev1.EmbedRequest{
					Model: testkit.ModelName, Inputs: repeatInput(inputs),
					Scheduling: &inferencev1.Scheduling{Priority: inferencev1.Priority_PRIORITY_INTERACTIVE},
				})
				if err != nil {
					b.Fatal(err)
				}
				g.hotpath.SetEmbed(func(context.Context, *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
					return reply, nil
				})
				body := fmt.Sprintf(`{"model":%q,"encoding_format":%q,"input":["text"%s]}`,
					testkit.ModelName, format, strings.Repeat(`,"text"`, inputs-1))
				for b.Loop() {
					if got := g.post("/v1/embeddings", body); got.status != http.StatusOK {
						b.Fatalf("got %d %s", got.status, got.body)
					}
				}
			})
		}
	}
}

func repeatInput(n int) []*inferencev1.EmbedInput {
	inputs := make([]*inferencev1.EmbedInput, n)
	for i := range inputs {
		inputs[i] = &inferencev1.EmbedInput{Input: &inferencev1.EmbedInput_Text{Text: "text"}}
	}
	return inputs
}

// BenchmarkStream is what the gateway adds for each token, over real sockets on both sides, to a hot path that says
// them all at once.
func BenchmarkStream(b *testing.B) {
	const tokens = 1000
	for name, request := range map[string][2]string{
		"chat":       {"/v1/chat/completions", oneChat},
		"completion": {"/v1/completions", oneCompletion},
	} {
		b.Run(name, func(b *testing.B) {
			g := startGateway(b)
			g.hotpath.SetGenerate(func(_ *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
				delta := &inferencev1.GenerateDelta{Text: " word", Tokens: []*inferencev1.GeneratedToken{{Id: 7, Bytes: []byte(" word")}}}
				for range tokens {
					if err := testkit.SendDelta(stream, delta); err != nil {
						return err
					}
				}
				return sendEnd(stream)
			})
			for b.Loop() {
				if got := g.post(request[0], streamed(request[1])); got.status != http.StatusOK {
					b.Fatalf("got %d %s", got.status, got.body)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*tokens), "µs/token")
		})
	}
}
