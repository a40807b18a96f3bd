package server

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

// marked is what a client sends in every place where it may send a text of its own, and what must be in no span.
const marked = "mark-of-a-client"

// markedRequests send it in paths, queries, headers, bodies and files; what becomes of them is of no account here.
func (g *gateway) markedRequests() {
	g.Helper()
	model := `{"model":"` + testkit.ModelName + `",`
	for path, bodies := range map[string][]string{
		"/v1/embeddings": {
			model + `"input":"` + marked + `"}`, model + `"input":["` + marked + `"],"user":"` + marked + `"}`, model + `"input":"a","` + marked + `":1}`,
			model + `"input":"a","encoding_format":"` + marked + `"}`, `{"model":"` + marked + `","input":"a"}`, `{"` + marked, marked,
			model + `"input":["a",""],"x":"` + marked + `"}`,
		},
		"/v1/moderations": {`{"input":"` + marked + `"}`, `{"model":"` + marked + `","input":"a"}`},
		"/v1/tokenize":    {model + `"input":"` + marked + `"}`},
		jobsRoute: {
			`{"endpoint":"/v1/embeddings","body":` + model + `"input":"` + marked + `"},"metadata":{"` + marked + `":"` + marked + `"}}`,
			`{"endpoint":"/v1/` + marked + `","body":{}}`,
		},
		batchesRoute:               {`{"input_file_id":"` + marked + `","endpoint":"/v1/embeddings","completion_window":"24h"}`},
		webhooksRoute:              {`{"url":"http://127.0.0.1:1/` + marked + `","event_types":["` + marked + `"]}`, `{"url":"http://127.0.0.1:1/` + marked + `"}`},
		"/v1/" + marked:            {`{}`},
		"/v1/embeddings?" + marked: {model + `"input":"a"}`},
	} {
		for _, body := range bodies {
			g.post(path, body)
		}
	}
	for _, path := range []string{"/v1/models/" + marked, filesRoute + "/" + marked, filesRoute + "?after=" + marked, jobsRoute + "/" + marked, "/" + marked + "//"} {
		g.get(path)
		g.do(strings.ToUpper(marked), path, "", "Authorization", "Bearer "+g.keys["acme"])
	}
	g.upload("acme", field{"purpose", "", "user_data"}, field{"file", marked + ".txt", marked})
	g.upload("acme", field{"purpose", "", marked}, field{"file", marked + ".txt", marked})
	for _, authorization := range []string{marked, "Bearer " + marked, "Bearer trip_" + marked, "Basic " + marked} {
		g.do(http.MethodPost, "/v1/embeddings", oneText, "Authorization", authorization)
	}
	g.post("/v1/embeddings", oneText, "Traceparent", marked, "Tracestate", "a="+marked, "Baggage", "a="+marked, "User-Agent", marked,
		"X-Request-Timeout", marked, "Idempotency-Key", marked, "Content-Type", marked, "X-Forwarded-For", marked, "Cookie", marked)
	g.post("/v1/embeddings", oneText, "Traceparent", sampled, "Tracestate", "a="+marked, "Baggage", "a="+marked)
}

func TestNoSpanHoldsWhatAClientSent(t *testing.T) {
	g := startTraced(t, 1)
	g.markedRequests()
	// The hot path's errors quote what it was asked.
	g.hotpath.SetEmbed(func(context.Context, *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		return nil, testkit.Refusal(fault.InvalidValue, "inputs[0].text", fmt.Sprintf("%q is wrong", marked))
	})
	g.markedRequests()
	g.hotpath.SetEmbed(nil)
	stop := g.runJobs()
	g.eventually("the jobs' ends", func() bool { return !strings.Contains(string(g.get(jobsRoute).body), `"queued"`) })
	stop()
	g.checkSpansAreClean(100)
}

// checkSpansAreClean looks for what must be in no span, in all bytes of the spans that the collector got, of which there
// must be so many.
func (g *tracedGateway) checkSpansAreClean(least int) {
	g.Helper()
	g.flush()
	if len(g.Spans()) < least {
		g.Fatalf("only %d spans were recorded", len(g.Spans()))
	}
	forbidden := []string{marked, strings.ToUpper(marked), "trip_"}
	for _, key := range g.keys {
		forbidden = append(forbidden, key)
	}
	for _, resource := range g.Received() {
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				sent, err := proto.Marshal(span)
				if err != nil {
					g.Fatal(err)
				}
				for _, words := range forbidden {
					if bytes.Contains(sent, []byte(words)) {
						g.Errorf("%q is in %v", words, span)
					}
				}
			}
		}
	}
}
