package app

import (
	"log/slog"

	"triptych.dev/gateway/internal/config"
	"triptych.dev/gateway/internal/telemetry"
	"triptych.dev/gateway/internal/tracing"
)

// openTracer returns nil where nothing is recorded.
func openTracer(settings *config.Settings, metrics *telemetry.Metrics, logger *slog.Logger) (*tracing.Tracer, error) {
	if settings.OTLPEndpoint == "" {
		return nil, nil
	}
	version, _ := telemetry.Build()
	return tracing.Open(tracing.Options{
		Endpoint: settings.OTLPEndpoint, Ratio: settings.TraceRatio, Queue: settings.TraceQueue, Timeout: settings.OTLPTimeout,
		Version: version, Observer: metrics.ReportTraces(logger),
	})
}
