package telemetry

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// Traces are metrics of the spans that are sent to a collector, and what the log says of that.
type Traces struct {
	exported prometheus.Counter
	dropped  *prometheus.CounterVec
	logger   *slog.Logger
}

// ReportTraces adds gateway_trace_spans_exported_total and gateway_trace_spans_dropped_total.
func (m *Metrics) ReportTraces(logger *slog.Logger) *Traces {
	traces := &Traces{
		exported: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_trace_spans_exported_total", Help: "Spans that the collector of traces has taken.",
		}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_trace_spans_dropped_total", Help: "Spans that no collector has seen, by why.",
		}, []string{"why"}),
		logger: logger,
	}
	m.registry.MustRegister(traces.exported, traces.dropped)
	return traces
}

// Exported takes how many spans a collector has taken.
func (t *Traces) Exported(spans int) { t.exported.Add(float64(spans)) }

// Dropped takes how many spans are lost, and why.
func (t *Traces) Dropped(spans int, why string) { t.dropped.WithLabelValues(why).Add(float64(spans)) }

// Troubled takes the first error of several in a row, and nil when they have ended.
func (t *Traces) Troubled(err error) {
	if err != nil {
		t.logger.Warn("the collector takes no spans; until it does they are dropped", "error", err.Error())
	} else {
		t.logger.Info("the collector takes spans again")
	}
}
