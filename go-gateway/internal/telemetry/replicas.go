package telemetry

import "github.com/prometheus/client_golang/prometheus"

// Replica is one hot path, as the gateway sees it now.
type Replica struct {
	Address            string
	Connected, Ejected bool
	// Calls and Tokens are this gateway's that are outstanding there; Load is what all have there, in tokens.
	Calls, Tokens, Load int64
	Retries, Ejections  uint64
}

// replicaMetric is one number of each replica.
type replicaMetric struct {
	description *prometheus.Desc
	kind        prometheus.ValueType
	value       func(Replica) float64
}

// replicas asks at each scrape, so that one that is gone has no series any longer: where their addresses are handed out
// anew with each start, a counter of each that ever was would grow without end.
type replicas struct {
	now     func() []Replica
	metrics []replicaMetric
}

// ReportReplicas adds gateway_replica_…, which asks now at each scrape.
func (m *Metrics) ReportReplicas(now func() []Replica) {
	collector := &replicas{now: now}
	add := func(name, help string, kind prometheus.ValueType, value func(Replica) float64) {
		description := prometheus.NewDesc("gateway_replica_"+name, help, []string{"replica"}, nil)
		collector.metrics = append(collector.metrics, replicaMetric{description, kind, value})
	}
	add("connected", "1 while there is a connection to the hot path.", prometheus.GaugeValue,
		func(r Replica) float64 { return oneIf(r.Connected) })
	add("ejected", "1 while the hot path gets no calls that another one can take, since it failed.", prometheus.GaugeValue,
		func(r Replica) float64 { return oneIf(r.Ejected) })
	add("outstanding_calls", "Calls of this gateway that the hot path has.", prometheus.GaugeValue,
		func(r Replica) float64 { return float64(r.Calls) })
	add("outstanding_tokens", "Tokens of this gateway's calls that the hot path has, about.", prometheus.GaugeValue,
		func(r Replica) float64 { return float64(r.Tokens) })
	add("load_tokens", "Tokens that the hot path has to do for all gateways, about.", prometheus.GaugeValue,
		func(r Replica) float64 { return float64(r.Load) })
	add("retries_total", "Calls that the hot path got since another one had not begun them.", prometheus.CounterValue,
		func(r Replica) float64 { return float64(r.Retries) })
	add("ejections_total", "How often the hot path was ejected.", prometheus.CounterValue,
		func(r Replica) float64 { return float64(r.Ejections) })
	m.registry.MustRegister(collector)
}

// Describe implements prometheus.Collector.
func (c *replicas) Describe(descriptions chan<- *prometheus.Desc) {
	for _, metric := range c.metrics {
		descriptions <- metric.description
	}
}

// Collect implements prometheus.Collector.
func (c *replicas) Collect(metrics chan<- prometheus.Metric) {
	for _, replica := range c.now() {
		for _, metric := range c.metrics {
			metrics <- prometheus.MustNewConstMetric(metric.description, metric.kind, metric.value(replica), replica.Address)
		}
	}
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
