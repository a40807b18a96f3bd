package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// TenantCounts are what one tenant was counted with since the gateway began.
type TenantCounts struct {
	Requests, Tokens float64
	Streams          int64              // now
	Limited          map[string]float64 // requests that its limits refused, by limit; nil where there is none
}

// ByTenant reads the metrics that have tenants, of all that there are. It costs what a scrape of them does.
func (m *Metrics) ByTenant() map[string]*TenantCounts {
	tenants := map[string]*TenantCounts{}
	read := func(from prometheus.Collector, add func(counts *TenantCounts, labels labels, value float64)) {
		each(from, func(labels labels, value float64) {
			tenant := labels.of("tenant")
			counts, known := tenants[tenant]
			if !known {
				counts = &TenantCounts{}
				tenants[tenant] = counts
			}
			add(counts, labels, value)
		})
	}
	read(m.TenantRequests, func(counts *TenantCounts, _ labels, value float64) { counts.Requests += value })
	read(m.Tokens, func(counts *TenantCounts, _ labels, value float64) { counts.Tokens += value })
	read(m.Streams, func(counts *TenantCounts, _ labels, value float64) { counts.Streams += int64(value) })
	read(m.RateLimited, func(counts *TenantCounts, labels labels, value float64) {
		if counts.Limited == nil {
			counts.Limited = map[string]float64{}
		}
		counts.Limited[labels.of("limit")] += value
	})
	return tenants
}

// ByReason reads how many requests failed since the gateway began, by reason.
func (m *Metrics) ByReason() map[string]float64 {
	reasons := map[string]float64{}
	each(m.Requests, func(labels labels, value float64) {
		if reason := labels.of("reason"); reason != "OK" {
			reasons[reason] += value
		}
	})
	return reasons
}

// labels are those of one number.
type labels []*dto.LabelPair

// of returns the value of a label.
func (l labels) of(name string) string {
	for _, pair := range l {
		if pair.GetName() == name {
			return pair.GetValue()
		}
	}
	return ""
}

// each reads all numbers of counters or gauges.
func each(from prometheus.Collector, take func(labels labels, value float64)) {
	metrics := make(chan prometheus.Metric, 64)
	go func() {
		defer close(metrics)
		from.Collect(metrics)
	}()
	for metric := range metrics {
		var read dto.Metric
		if metric.Write(&read) == nil { // of a counter or a gauge it never fails
			take(read.GetLabel(), read.GetCounter().GetValue()+read.GetGauge().GetValue())
		}
	}
}
