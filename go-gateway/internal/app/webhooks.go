package app

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"triptych.dev/gateway/internal/config"
	"triptych.dev/gateway/internal/telemetry"
	"triptych.dev/gateway/internal/tracing"
	"triptych.dev/gateway/internal/webhook"
)

// newWebhooks reads what the settings have checked.
func newWebhooks(settings *config.Settings, opened Opened, jobs *telemetry.Jobs, metrics *telemetry.Metrics, tracer *tracing.Tracer, logger *slog.Logger) (*webhook.Webhooks, error) {
	options := webhook.Options{
		Store: opened.Store, Workers: settings.WebhookWorkers, Timeout: settings.WebhookTimeout, Now: time.Now,
		Observer: metrics.ReportWebhooks(jobs), Tracer: tracer, Logger: logger,
	}
	for _, text := range settings.WebhookRetries {
		pause, err := time.ParseDuration(text)
		if err != nil {
			return nil, fmt.Errorf("webhook-retries: %w", err)
		}
		options.Retries = append(options.Retries, pause)
	}
	for _, text := range settings.WebhookAllowNetworks {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("webhook-allow-networks: %w", err)
		}
		options.Guard.Allowed = append(options.Guard.Allowed, network)
	}
	return webhook.New(options), nil
}
