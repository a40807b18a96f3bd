package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/testkit"
)

// serveOne starts a gateway, has it serve one request, and tells its log and metrics up to then.
func (s *site) serveOne(extra ...string) (g *served, metrics string) {
	s.Helper()
	key := s.createKey()
	g = s.serve(extra...)
	address, operators := address(s.T, g.log, "http"), address(s.T, g.log, "metrics")
	eventually(s.T, "a reply", func() bool { return embed(address, key) == http.StatusOK })
	return g, getText(operators, "/metrics")
}

func TestACollectorGetsTheTracesThatBeginHere(t *testing.T) {
	collector := testkit.StartCollector(t)
	g, metrics := newSite(t).serveOne("--otlp-endpoint", collector.Endpoint, "--trace-ratio", "1")
	if !strings.Contains(metrics, "gateway_trace_spans_exported_total") {
		t.Error("spans are not counted")
	}
	g.stop()
	if status := g.exit(); status != exitOK {
		t.Errorf("status %d:\n%s", status, g.log)
	}
	found := false
	for _, span := range collector.Spans() {
		found = found || span.GetName() == "POST /v1/embeddings"
	}
	if !found {
		t.Errorf("it got %v", collector.Spans())
	}
}

func TestACollectorThatHangsKeepsTheGatewayForItsTimeout(t *testing.T) {
	collector := testkit.StartCollector(t)
	collector.Hang()
	g, _ := newSite(t).serveOne("--otlp-endpoint", collector.Endpoint, "--trace-ratio", "1", "--otlp-timeout", "100ms")
	began := time.Now()
	g.stop()
	if status := g.exit(); status != exitOK {
		t.Errorf("status %d:\n%s", status, g.log)
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("the end took %v", took)
	}
	if !strings.Contains(g.log.String(), "the collector takes no spans") {
		t.Errorf("the log does not tell:\n%s", g.log)
	}
}

func TestWithoutACollectorNothingIsCounted(t *testing.T) {
	if _, metrics := newSite(t).serveOne(); strings.Contains(metrics, "gateway_trace_") {
		t.Error("there are metrics of traces")
	}
}
