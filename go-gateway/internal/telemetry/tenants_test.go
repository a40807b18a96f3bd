package telemetry

import (
	"fmt"
	"maps"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestWhatTenantsWereCountedWith(t *testing.T) {
	m := NewMetrics(2, time.Now)
	for range 3 {
		m.Tenants.Ended("acme")
	}
	m.Tenants.Charged("acme", "one", 5)
	m.Tenants.Charged("acme", "other", 6)
	m.Tenants.StreamBegan("acme")
	for range 2 {
		m.Tenants.Limited("globex", "tokens_per_day")
	}
	m.Requests.WithLabelValues("/v1/embeddings", "200", "OK").Add(9)
	m.Requests.WithLabelValues("/v1/embeddings", "429", "RATE_LIMITED").Add(2)
	m.Requests.WithLabelValues("/v1/models", "429", "RATE_LIMITED").Inc()
	found := m.ByTenant()
	if got := found["acme"]; got == nil || got.Requests != 3 || got.Tokens != 11 || got.Streams != 1 || got.Limited != nil {
		t.Errorf("got %+v", got)
	}
	if got := found["globex"]; got == nil || got.Requests != 0 || !maps.Equal(got.Limited, map[string]float64{"tokens_per_day": 2}) || len(found) != 2 {
		t.Errorf("got %+v of %d", got, len(found))
	}
	if got := m.ByReason(); !maps.Equal(got, map[string]float64{"RATE_LIMITED": 3}) {
		t.Errorf("got %v", got)
	}
}

func TestWhereTheTimeOfTenantsWent(t *testing.T) {
	m := NewMetrics(1, time.Now)
	phases := []Phase{{"queue", time.Second}, {"inference", 2 * time.Second}}
	m.Tenants.Spent("acme", phases, 0)
	m.Tenants.Spent("globex", phases, 3*time.Second)
	m.Tenants.Spent("initech", phases, time.Second)
	for _, line := range []string{
		`gateway_tenant_seconds_total{phase="queue",tenant="acme"} 1`,
		`gateway_tenant_seconds_total{phase="inference",tenant="(other)"} 4`,
		`gateway_tenant_row_seconds_total{tenant="(other)"} 4`,
	} {
		if text := scrape(m); !strings.Contains(text, line+"\n") {
			t.Errorf("%s is missing from:\n%s", line, text)
		}
	}
}

// Whatever tenants there are, series are bounded, nothing is counted twice or not at all, and none goes back.
func TestSeriesOfTenThousandTenantsAreBounded(t *testing.T) {
	const many, most, rounds = 10_000, 50, 3
	clock := time.Unix(1_800_000_000, 0)
	m := NewMetrics(most, func() time.Time { return clock })
	before := 0.0
	for round := range rounds {
		var counting sync.WaitGroup
		for part := range 4 {
			counting.Go(func() {
				for i := part; i < many; i += 4 {
					tenant := fmt.Sprintf("tenant-%d", i)
					m.Tenants.Ended(tenant)
					m.Tenants.Charged(tenant, "m", uint64(i))
					m.Tenants.Generated(tenant, "m", 1, 1)
					m.Tenants.Limited(tenant, "requests_per_minute")
					m.Tenants.Spent(tenant, []Phase{{"queue", time.Second}}, time.Second)
					m.Tenants.StreamBegan(tenant)()
				}
			})
		}
		counting.Wait()
		found := m.ByTenant()
		if len(found) > most+1 {
			t.Fatalf("%d tenants have series", len(found))
		}
		if series := strings.Count(scrape(m), `tenant="`); series > (most+1)*8 {
			t.Fatalf("%d series", series)
		}
		others := found[OtherTenants].Requests
		if others < before {
			t.Errorf("round %d: the series of the others went from %v to %v", round, before, others)
		}
		before = others
		clock = clock.Add(rankEvery)
	}
	if requests, tokens := m.Tenants.Totals(); requests != rounds*many || tokens != rounds*many*(many-1)/2 {
		t.Errorf("%v requests, %v tokens in all", requests, tokens)
	}
	if before != rounds*many-float64(rounds*most) { // in each round as many are counted by name
		t.Errorf("%v requests are the others'", before)
	}
	if compared := len(m.Tenants.others); compared > maxOthers*most {
		t.Errorf("%d are compared", compared)
	}
}

func TestWhoIsBusierTakesThePlaceOfAnother(t *testing.T) {
	clock := time.Unix(1_800_000_000, 0)
	m := NewMetrics(2, func() time.Time { return clock })
	use := func(tokens map[string]uint64) {
		for _, tenant := range []string{"acme", "globex", "initech"} { // in this order
			m.Tenants.Charged(tenant, "m", tokens[tenant])
		}
	}
	tokens := func(tenant string) float64 {
		if counts := m.ByTenant()[tenant]; counts != nil {
			return counts.Tokens
		}
		return -1
	}
	use(map[string]uint64{"acme": 10, "globex": 100, "initech": 20})
	clock = clock.Add(rankEvery)
	use(map[string]uint64{"acme": 10, "globex": 100, "initech": 21})
	if tokens("acme") != 20 || tokens(OtherTenants) != 41 {
		t.Errorf("one that is not more than twice as busy: %v, others %v", tokens("acme"), tokens(OtherTenants))
	}
	clock = clock.Add(rankEvery)
	use(map[string]uint64{"acme": 1, "globex": 1, "initech": 1})
	if tokens("acme") != -1 || tokens("initech") != 1 || tokens(OtherTenants) != 42 || tokens("globex") != 201 {
		t.Errorf("one that is: %+v", m.ByTenant())
	}
}

func TestOneThatHasStreamsKeepsItsPlace(t *testing.T) {
	clock := time.Unix(1_800_000_000, 0)
	m := NewMetrics(1, func() time.Time { return clock })
	ended := m.Tenants.StreamBegan("acme")
	for range 2 {
		m.Tenants.Charged("globex", "m", 5)
		clock = clock.Add(rankEvery)
	}
	if found := m.ByTenant(); found["acme"] == nil || found["acme"].Streams != 1 {
		t.Fatalf("got %+v", found)
	}
	ended()
	if found := m.ByTenant(); found["acme"].Streams != 0 {
		t.Errorf("got %+v", found["acme"])
	}
	m.Tenants.Charged("globex", "m", 5)
	if found := m.ByTenant(); found["acme"] != nil || found["globex"].Tokens != 5 {
		t.Errorf("after its end: %+v", found)
	}
}

func scrape(m *Metrics) string {
	reply := httptest.NewRecorder()
	m.Handler().ServeHTTP(reply, httptest.NewRequest("GET", "/metrics", nil))
	return reply.Body.String()
}
