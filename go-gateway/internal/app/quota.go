package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"triptych.dev/gateway/internal/config"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/quota/redisstore"
	"triptych.dev/gateway/internal/telemetry"
)

// quotaStore is where what tenants use is kept.
type quotaStore struct {
	quota.Store
	watch    func(context.Context)
	close    func() error
	degraded func() bool // nil: never
}

// openQuotaStore returns this process's memory, or Redis. One that cannot be reached yet is no reason not to start.
func openQuotaStore(settings *config.Settings, metrics *telemetry.Metrics, logger *slog.Logger) (*quotaStore, error) {
	address, name, err := redisURL(settings)
	if err != nil {
		return nil, err
	}
	if address == "" {
		return &quotaStore{
			Store: quota.NewMemory(time.Now, settings.QuotaLease),
			watch: func(ctx context.Context) { <-ctx.Done() },
			close: func() error { return nil },
		}, nil
	}
	shared, err := redisstore.New(redisstore.Options{
		URL: address, Lease: settings.QuotaLease, Logger: logger, Dropped: metrics.DroppedSettlements.Inc,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	failover := quota.NewFailover(shared, time.Now, settings.RedisGateways, func(away bool, cause error) {
		if away {
			logger.Error("Redis did not answer in time: limits are a local share of the plans' until it is back", "error", cause)
		} else {
			logger.Info("limits are shared in Redis")
		}
	})
	metrics.ReportDegradedLimits(failover.Away)
	return &quotaStore{failover, failover.Watch, shared.Close, failover.Away}, nil
}

// redisURL is the URL, of the setting or of the file, and what it is of.
func redisURL(settings *config.Settings) (address, name string, err error) {
	if settings.RedisURLFile == "" {
		return settings.RedisURL, "redis-url", nil
	}
	content, err := os.ReadFile(settings.RedisURLFile)
	if err != nil {
		return "", "", fmt.Errorf("redis-url-file: %w", err)
	}
	if address = strings.TrimSpace(string(content)); address == "" {
		return "", "", fmt.Errorf("redis-url-file: %s is empty", settings.RedisURLFile)
	}
	return address, "redis-url-file", nil
}
