package main

import (
	"math"
	"net/http"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the consumer's. No label holds what a message says.
type metrics struct {
	registry *prometheus.Registry

	fetches      *prometheus.CounterVec
	outcomes     *prometheus.CounterVec
	dead         *prometheus.CounterVec
	retries      *prometheus.CounterVec
	inFlight     prometheus.Gauge
	seconds      *prometheus.HistogramVec
	pending      prometheus.Gauge
	unsettled    prometheus.Gauge
	redeliveries prometheus.Gauge
}

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		fetches:  counter("consumer_fetched_total", "Messages that were fetched; again: delivered before.", "again"),
		outcomes: counter("consumer_messages_total", "Deliveries that ended: acked, nak or dead.", "outcome"),
		dead:     counter("consumer_dead_letters_total", "Dead letters that were published.", "reason"),
		retries:  counter("consumer_retries_total", "Attempts that failed and are made again, by where and the gateway's status, if it has answered.", "where", "status"),
		inFlight: gauge("consumer_in_flight", "Messages that are here."),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "consumer_message_seconds", Help: "Time from the fetch of a message to its end here.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800},
		}, []string{"outcome"}),
		pending:      gauge("consumer_pending", "Messages of the stream that were never delivered, to all processes; NaN: unknown."),
		unsettled:    gauge("consumer_ack_pending", "Messages that were delivered and are not acknowledged, of all processes; NaN: unknown."),
		redeliveries: gauge("consumer_redelivered", "Of these, those that were delivered more than once; NaN: unknown."),
	}
	m.registry.MustRegister(m.fetches, m.outcomes, m.dead, m.retries, m.inFlight, m.seconds, m.pending, m.unsettled, m.redeliveries,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, outcome := range []string{outcomeAcked, outcomeNak, outcomeDead} {
		m.outcomes.WithLabelValues(outcome)
	}
	m.queue(nil, nil)
	return m
}

func (m *metrics) fetched(d *delivery) {
	again := "no"
	if d.meta.NumDelivered > 1 {
		again = "yes"
	}
	m.fetches.WithLabelValues(again).Inc()
}

func (m *metrics) ended(outcome string, took time.Duration) {
	m.inFlight.Dec()
	m.outcomes.WithLabelValues(outcome).Inc()
	m.seconds.WithLabelValues(outcome).Observe(took.Seconds())
}

// queue is what NATS tells of the consumer; nil: it is unknown.
func (m *metrics) queue(info *jetstream.ConsumerInfo, err error) {
	if info == nil || err != nil {
		for _, gauge := range []prometheus.Gauge{m.pending, m.unsettled, m.redeliveries} {
			gauge.Set(math.NaN())
		}
		return
	}
	m.pending.Set(float64(info.NumPending))
	m.unsettled.Set(float64(info.NumAckPending))
	m.redeliveries.Set(float64(info.NumRedelivered))
}

// handler serves /metrics, and asks at each scrape whether NATS is there and messages are fetched.
func (m *metrics) handler(ready func() bool) http.Handler {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "consumer_ready", Help: "1 while messages are fetched; 0 while NATS is away, or the stream.",
	}, func() float64 {
		if ready() {
			return 1
		}
		return 0
	}))
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
