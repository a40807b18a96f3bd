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
