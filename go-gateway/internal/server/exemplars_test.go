package server

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// scrapeAs returns /metrics in the format that an Accept header prefers.
func (g *gateway) scrapeAs(accept string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	request.Header.Set("Accept", accept)
	reply := httptest.NewRecorder()
	g.Metrics.Handler().ServeHTTP(reply, request)
	return reply
}

func TestTimesHaveTheTraceOfARequestAsAnExemplar(t *testing.T) {
	g := startTraced(t, 0)
	g.post("/v1/embeddings", oneText, "X-Request-Id", "traced", "Traceparent", sampled)
	g.post("/v1/embeddings", oneText, "X-Request-Id", "untraced")
	g.accessLine("traced")
	g.accessLine("untraced")
	exemplar := `_bucket\{.*\} \d+ # \{trace_id="` + parentTrace + `"\}`
	text := g.scrapeAs("application/openmetrics-text").Body.String()
	for _, name := range []string{"gateway_request_seconds", "gateway_hotpath_seconds"} {
		if found := regexp.MustCompile("(?m)^"+name+exemplar).FindAllString(text, -1); len(found) != 1 {
			t.Errorf("%s has the exemplars %q", name, found)
		}
	}
	if strings.Count(text, "# {") != 2 {
		t.Errorf("there are others in\n%s", text)
	}
	if plain := g.scrapeAs("text/plain").Body.String(); strings.Contains(plain, "# {") {
		t.Errorf("the plain format has exemplars:\n%s", plain)
	}
}

func TestWhoAsksForPrometheusOwnFormatGetsFineBuckets(t *testing.T) {
	g := startGateway(t)
	g.post("/v1/embeddings", oneText, "X-Request-Id", "one")
	g.accessLine("one")
	reply := g.scrapeAs(`application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited`)
	decoder := expfmt.NewDecoder(reply.Body, expfmt.ResponseFormat(reply.Header()))
	for {
		var family dto.MetricFamily
		if err := decoder.Decode(&family); err != nil {
			t.Fatalf("gateway_request_seconds is not there: %v", err)
		}
		if family.GetName() != "gateway_request_seconds" {
			continue
		}
		if found := family.GetMetric()[0].GetHistogram(); found.GetSchema() < 1 || len(found.GetPositiveSpan()) == 0 || len(found.GetBucket()) == 0 {
			t.Errorf("got %v", found)
		}
		return
	}
}
