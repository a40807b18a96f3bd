package telemetry

import (
	"maps"
	"testing"
)

func TestWhatTenantsWereCountedWith(t *testing.T) {
	m := NewMetrics()
	m.TenantRequests.WithLabelValues("acme").Add(3)
	m.Tokens.WithLabelValues("acme", "one").Add(5)
	m.Tokens.WithLabelValues("acme", "other").Add(6)
	m.Streams.WithLabelValues("acme").Inc()
	m.RateLimited.WithLabelValues("globex", "tokens_per_day").Add(2)
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
