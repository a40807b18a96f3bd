package telemetry

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// durationBuckets span a refusal (well below 1 ms) to the longest generation.
var durationBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300} // seconds

// Metrics are the gateway's. Labels hold only values of a bounded number: routes of the table, the busiest tenants, served
// models.
type Metrics struct {
	registry *prometheus.Registry

	// Tenants are those of tenants.
	Tenants *Tenants
	// Requests counts answered requests by route, status and reason ("OK" or one of docs/errors.md).
	Requests *prometheus.CounterVec
	// RequestSeconds is the time from a request's headers to its reply, by route.
	RequestSeconds *prometheus.HistogramVec
	// Inflight is the number of requests that are being served.
	Inflight prometheus.Gauge
	// HotpathSeconds is the time that calls to the hot path took, by method and outcome ("OK" or one of
	// docs/errors.md).
	HotpathSeconds *prometheus.HistogramVec
	// FirstTokenSeconds is the time from when a request was here, with its body, to its first token, by model.
	FirstTokenSeconds *prometheus.HistogramVec
	// Finishes counts choices that ended, by model and OpenAI's finish_reason.
	Finishes *prometheus.CounterVec
	// RefusedConnections counts connections that there was no room for, by listener.
	RefusedConnections *prometheus.CounterVec
	// RefusedRetries counts calls that were not made again elsewhere, though they could have been: too many were.
	RefusedRetries prometheus.Counter
	// KnownFull counts calls that were refused without asking: each hot path had just refused their like.
	KnownFull prometheus.Counter
	// DroppedSettlements counts what could not be given back, since Redis was away for too long.
	DroppedSettlements prometheus.Counter
}

// histogram has the buckets of its options; for who asks for Prometheus's own format it is a native histogram too.
func histogram(options prometheus.HistogramOpts, labels ...string) *prometheus.HistogramVec {
	options.NativeHistogramBucketFactor, options.NativeHistogramMaxBucketNumber = 1.1, 100
	options.NativeHistogramMinResetDuration = time.Hour
	return prometheus.NewHistogramVec(options, labels)
}

// Observe notes how long something took. A trace that is recorded is its exemplar; an empty one is none.
func Observe(seconds prometheus.Observer, took time.Duration, trace string) {
	if exemplars, can := seconds.(prometheus.ExemplarObserver); can && trace != "" {
		exemplars.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": trace})
		return
	}
	seconds.Observe(took.Seconds())
}

// NewMetrics returns metrics of a registry of their own, in which so many tenants have series of their own, at least one.
func NewMetrics(tenants int, now func() time.Time) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		Tenants:  newTenants(tenants, now),
		Requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_requests_total", Help: "Answered requests.",
		}, []string{"route", "status", "reason"}),
		RequestSeconds: histogram(prometheus.HistogramOpts{
			Name: "gateway_request_seconds", Help: "Time from a request's headers to its reply.", Buckets: durationBuckets,
		}, "route"),
		Inflight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gateway_inflight_requests", Help: "Requests that are being served.",
		}),
		HotpathSeconds: histogram(prometheus.HistogramOpts{
			Name: "gateway_hotpath_seconds", Help: "Time that calls to the hot path took.", Buckets: durationBuckets,
		}, "method", "outcome"),
		FirstTokenSeconds: histogram(prometheus.HistogramOpts{
			Name: "gateway_first_token_seconds", Help: "Time from the end of a request's body to its first token.",
			Buckets: durationBuckets,
		}, "model"),
		Finishes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_finished_choices_total", Help: "Continuations that ended, by why.",
		}, []string{"model", "finish_reason"}),
		RefusedConnections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_refused_connections_total", Help: "Connections that were closed at once, since there were enough, or of their address.",
		}, []string{"listener"}),
		KnownFull: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_known_full_total", Help: "Calls that were refused without asking, since every hot path had just refused their like.",
		}),
		RefusedRetries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_refused_retries_total", Help: "Calls that were not made again at another hot path, since too many were.",
		}),
		DroppedSettlements: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_dropped_settlements_total", Help: "Unused tokens that were not given back, since Redis was away for too long.",
		}),
	}
	m.registry.MustRegister(
		m.Requests, m.RequestSeconds, m.Inflight, m.HotpathSeconds, m.FirstTokenSeconds, m.Finishes, m.RefusedConnections, m.RefusedRetries, m.KnownFull, m.DroppedSettlements,
		buildInfo(),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	for _, vector := range m.Tenants.vectors() {
		m.registry.MustRegister(vector)
	}
	return m
}

// ReportReady adds gateway_ready, which asks ready at each scrape.
func (m *Metrics) ReportReady(ready func() bool) {
	m.reportWhether("gateway_ready", "1 while /readyz says ready.", ready)
}

// ReportDegradedLimits adds gateway_limits_degraded, which asks degraded at each scrape.
func (m *Metrics) ReportDegradedLimits(degraded func() bool) {
	m.reportWhether("gateway_limits_degraded", "1 while a local share of the limits holds, since Redis is away.", degraded)
}

// reportWhether adds a gauge that is 1 while something is so, and 0 else.
func (m *Metrics) reportWhether(name, help string, is func() bool) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return oneIf(is()) }))
}

// ReportStaleness adds gateway_source_stale_seconds of one source, which is asked at each scrape.
func (m *Metrics) ReportStaleness(source string, stale func() time.Duration) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_source_stale_seconds", Help: "For how long changes of a file could not be taken; 0 if they are.",
		ConstLabels: prometheus.Labels{"source": source},
	}, func() float64 { return stale().Seconds() }))
}

// ReportCertificate adds gateway_certificate_end_timestamp_seconds, which asks at each scrape when the certificate ends.
func (m *Metrics) ReportCertificate(end func() time.Time) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_certificate_end_timestamp_seconds", Help: "When the certificate in force ends, as Unix time.",
	}, func() float64 { return float64(end().Unix()) }))
}

// Handler serves /metrics, in the format that its client prefers.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true}) // which alone has exemplars
}
