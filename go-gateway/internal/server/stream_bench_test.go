package server

import (
	"net/http"
	"testing"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

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
