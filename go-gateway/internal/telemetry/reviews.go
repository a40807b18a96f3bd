package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ReportReviews adds gateway_moderation_pending_reviews and gateway_moderation_oldest_pending_review_seconds. What it returns takes
// how many texts wait for people, and since when the oldest one does; zero: there is none.
func (m *Metrics) ReportReviews() func(reviews int, oldest time.Time) {
	waiting := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "gateway_moderation_pending_reviews", Help: "Moderated texts, of all gateways, that wait for a decision of people.",
	})
	var since atomic.Int64 // in Unix milliseconds; 0: nothing waits
	oldest := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_moderation_oldest_pending_review_seconds", Help: "Time for which the oldest text that waits for people does; 0 while none does.",
	}, func() float64 { return secondsSince(&since) })
	m.registry.MustRegister(waiting, oldest)
	return func(reviews int, at time.Time) {
		waiting.Set(float64(reviews))
		storeTime(&since, at)
	}
}

// storeTime keeps a time in Unix milliseconds, and the zero time as 0.
func storeTime(into *atomic.Int64, at time.Time) {
	if at.IsZero() {
		into.Store(0)
	} else {
		into.Store(at.UnixMilli())
	}
}

// secondsSince is the time since one that storeTime has kept; 0 for the zero time.
func secondsSince(kept *atomic.Int64) float64 {
	if at := kept.Load(); at != 0 {
		return max(0, time.Since(time.UnixMilli(at)).Seconds())
	}
	return 0
}
