package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Webhooks are metrics of webhooks' deliveries, beside those of the jobs that make them.
type Webhooks struct {
	*Jobs
	attempts *prometheus.CounterVec
	waiting  prometheus.Gauge
	oldest   atomic.Int64 // in Unix milliseconds; 0: nothing waits
}

// ReportWebhooks adds gateway_webhook_attempts_total, gateway_webhook_pending_deliveries and
// gateway_webhook_oldest_pending_seconds.
func (m *Metrics) ReportWebhooks(jobs *Jobs) *Webhooks {
	hooks := &Webhooks{
		Jobs: jobs,
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_webhook_attempts_total", Help: "Attempts of this gateway to deliver an event to a webhook, by what came of them.",
		}, []string{"outcome"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gateway_webhook_pending_deliveries", Help: "Deliveries, of all gateways, that are neither made nor given up.",
		}),
	}
	oldest := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_webhook_oldest_pending_seconds", Help: "Time since the event of the oldest delivery that is pending; 0 while none is.",
	}, func() float64 { return secondsSince(&hooks.oldest) })
	m.registry.MustRegister(hooks.attempts, hooks.waiting, oldest)
	return hooks
}

// Attempted takes what came of an attempt.
func (w *Webhooks) Attempted(outcome string) { w.attempts.WithLabelValues(outcome).Inc() }

// Waiting takes how many deliveries wait, and the time of the oldest one's event.
func (w *Webhooks) Waiting(deliveries int, oldest time.Time) {
	w.waiting.Set(float64(deliveries))
	storeTime(&w.oldest, oldest)
}
