package app

import (
	"context"
	"fmt"
	"log/slog"
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
	address, err := config.FromFile("redis-url", settings.RedisURL, settings.RedisURLFile)
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
		return nil, fmt.Errorf("redis-url: %w", err)
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
