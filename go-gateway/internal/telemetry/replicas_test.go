package telemetry

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestAReplicaThatIsGoneHasNoSeries(t *testing.T) {
	m := NewMetrics(1, time.Now)
	replicas := []Replica{
		{Address: "a:1", Connected: true, Calls: 2, Tokens: 300, Load: 400, Retries: 5, Ejections: 6},
		{Address: "b:1", Ejected: true},
	}
	m.ReportReplicas(func() []Replica { return replicas })
	scrape := func() string {
		reply := httptest.NewRecorder()
		m.Handler().ServeHTTP(reply, httptest.NewRequest("GET", "/metrics", nil))
		return reply.Body.String()
	}
	got := scrape()
	for _, line := range []string{
		`gateway_replica_connected{replica="a:1"} 1`, `gateway_replica_connected{replica="b:1"} 0`,
		`gateway_replica_ejected{replica="a:1"} 0`, `gateway_replica_ejected{replica="b:1"} 1`,
		`gateway_replica_outstanding_calls{replica="a:1"} 2`, `gateway_replica_outstanding_tokens{replica="a:1"} 300`,
		`gateway_replica_load_tokens{replica="a:1"} 400`,
		`gateway_replica_retries_total{replica="a:1"} 5`, `gateway_replica_ejections_total{replica="a:1"} 6`,
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("%q is missing from:\n%s", line, got)
		}
	}
	replicas = replicas[:1]
	if got := scrape(); strings.Contains(got, "b:1") || !strings.Contains(got, "a:1") {
		t.Errorf("got:\n%s", got)
	}
}
