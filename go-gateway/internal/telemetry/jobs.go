package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Jobs are metrics of queues of jobs, whose names are a few that the program knows.
type Jobs struct {
	states  *prometheus.GaugeVec
	ended   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

// ReportJobs adds gateway_jobs, gateway_ended_jobs_total and gateway_job_seconds.
func (m *Metrics) ReportJobs() *Jobs {
	jobs := &Jobs{
		states: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gateway_jobs", Help: "Jobs of a queue, of all gateways, that are in a state.",
		}, []string{"queue", "state"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_ended_jobs_total", Help: "Jobs that this gateway has worked on, by what became of them.",
		}, []string{"queue", "outcome"}),
		seconds: histogram(prometheus.HistogramOpts{
			Name: "gateway_job_seconds", Help: "Time that work on a job took.", Buckets: durationBuckets,
		}, "queue"),
	}
	m.registry.MustRegister(jobs.states, jobs.ended, jobs.seconds)
	return jobs
}

// Counted takes how many jobs of a queue are in each state.
func (j *Jobs) Counted(queue string, states map[string]int) {
	for state, n := range states {
		j.states.WithLabelValues(queue, state).Set(float64(n))
	}
}

// Ended takes what became of a job, and how long the work on it took.
func (j *Jobs) Ended(queue, outcome string, took time.Duration) {
	j.ended.WithLabelValues(queue, outcome).Inc()
	j.seconds.WithLabelValues(queue).Observe(took.Seconds())
}
