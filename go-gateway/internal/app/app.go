// Package app is the gateway as a whole: it wires the other packages together, starts what they have running, and stops
// it in the reverse order without losing an accepted request.
//
// It knows every other package and does nothing of their work. It must not depend on flags, the environment or signals:
// those are the command's.
package app

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"triptych.dev/gateway/internal/batch"
	"triptych.dev/gateway/internal/blob"
	"triptych.dev/gateway/internal/certificate"
	"triptych.dev/gateway/internal/charge"
	"triptych.dev/gateway/internal/config"
	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/inference"
	"triptych.dev/gateway/internal/openai"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/server"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/telemetry"
)

// Opened is what was opened before the gateway starts, since what is wrong with it is told before that.
type Opened struct {
	Directory *identity.Directory
	Store     *store.Store
	// Blobs is nil where there are no files.
	Blobs *blob.Folder
	// Certificate is nil where the API is plain HTTP.
	Certificate *certificate.Certificate
	// AdminToken is nil where there is no admin API.
	AdminToken *identity.AdminToken
}

// Run serves until ctx ends, and then drains: first nobody new is sent here, then nobody new is let in, then those
// inside are waited for, and what they need ends last.
func Run(ctx context.Context, settings *config.Settings, opened Opened, logger *slog.Logger) error {
	directory, certified := opened.Directory, opened.Certificate
	metrics := telemetry.NewMetrics(settings.MetricsTenants, time.Now)
	tracer, err := openTracer(settings, metrics, logger)
	if err != nil {
		return err
	}
	hotpath, err := engine.New(engine.Options{
		Addresses:         settings.HotpathAddresses,
		ResolveInterval:   settings.HotpathDNSInterval,
		Timeout:           settings.RequestTimeout,
		GenerationTimeout: settings.GenerationTimeout,
		CanaryInterval:    settings.CanaryInterval,
		ReadyWindow:       settings.ReadyWindow,
		Metrics:           metrics,
		Logger:            logger,
		Now:               time.Now,
	})
	if err != nil {
		return errors.Join(err, tracer.Close())
	}
	quotas, err := openQuotaStore(settings, metrics, logger)
	if err != nil {
		return errors.Join(err, hotpath.Close(), tracer.Close())
	}
	limiter := quota.NewLimiter(quotas, time.Now)
	decoder := &openai.Decoder{
		Aliases: settings.ModelAliases, ModerationModel: settings.ModerationModel, MaxTokenizeBytes: engine.MaxTokenizeBytes,
	}
	kept := keepFiles(settings, opened, metrics, logger)
	charges := charge.New(opened.Store, limiter, logger)
	observer := metrics.ReportJobs()
	turns := batch.NewTurns(opened.Store)
	batches := keepBatches(settings, opened, kept, charges, turns, observer, tracer, logger)
	async := keepJobs(settings, opened, kept, charges, turns, decoder, metrics.ReportReviews(), observer, tracer, logger)
	hooks, err := newWebhooks(settings, opened, observer, metrics, tracer, logger)
	if err != nil {
		return errors.Join(err, quotas.close(), hotpath.Close(), tracer.Close())
	}
	gateway := server.New(server.Options{
		Authenticator: directory, Files: kept, Batches: batches, Jobs: async, Webhooks: hooks, Answers: opened.Store, TransferStall: settings.TransferStall, MinTransferRate: settings.MinTransferRate,
		Inference: &inference.Service{Engine: hotpath, Limiter: limiter, Metrics: metrics, Resolve: decoder.Resolve},
		Engine:    hotpath, LimitsDegraded: quotas.degraded, Metrics: metrics, Tracer: tracer, Logger: logger, Now: time.Now,
		MaxBodyBytes: settings.MaxBodyBytes, MaxBodiesBytes: settings.MaxTotalBodyBytes, MaxInflight: settings.MaxInflight,
		BodyTimeout: settings.BodyTimeout, WriteTimeout: settings.WriteTimeout,
		StreamHeartbeat: settings.StreamHeartbeat, Decoder: decoder,
		IgnoreUnknownFields: settings.UnknownFields != config.RefuseUnknownFields,
		CORSOrigins:         settings.CORSOrigins,
	})
	metrics.ReportReady(gateway.Ready)
	metrics.ReportReplicas(func() (replicas []telemetry.Replica) {
		for _, status := range hotpath.Replicas() {
			replicas = append(replicas, telemetry.Replica{
				Address: status.Address, Connected: status.Connected, Ejected: status.Ejected,
				Calls: status.Calls, Tokens: status.Tokens, Load: status.Load,
				Retries: status.Retries, Ejections: status.Ejections,
			})
		}
		return replicas
	})
	for source := range directory.Staleness(time.Now()) {
		metrics.ReportStaleness(source, func() time.Duration { return directory.Staleness(time.Now())[source] })
	}
	if certified != nil {
		metrics.ReportStaleness(certificate.Name, func() time.Duration { return certified.Staleness(time.Now()) })
		metrics.ReportCertificate(certified.End)
	}
	openable := openFiles()
	apiConnections, operatorConnections := connectionLimits(settings, openable)
	if apiConnections < settings.MaxConnections {
		logger.Warn("fewer connections than max-connections says, for lack of files that the process may open: raise the hard limit (ulimit -Hn, LimitNOFILE=, nofile)",
			"connections", apiConnections, "max_connections", settings.MaxConnections, "files", openable, "files_wanted", settings.MaxConnections+reservedFiles)
	}
	operations := &listener{name: "metrics", address: settings.MetricsAddress, connections: connectionPool(operatorConnections),
		handler: gateway.Operations(), metrics: metrics, settings: settings, logger: logger}
	api := &listener{name: "http", address: settings.HTTPAddress, connections: connectionPool(apiConnections),
		certificate: certified, handler: gateway.API(), metrics: metrics, settings: settings, logger: logger}
	adminToken, adminAPI := adminComponents(settings, opened, gateway, metrics, operatorConnections, []*listener{api, operations}, logger)
	return run(ctx, []component{
		{stop: tracer.Close},
		{stop: hotpath.Close},
		{stop: quotas.close},
		background(quotas.watch),
		background(limiter.Watch),
		background(hotpath.Watch),
		background(directory.Watch),
		watchCertificate(certified),
		watchFiles(kept),
		watchCharges(opened.Store, charges),
		forgetAnswers(opened.Store, logger),
		background(hooks.Watch),
		background(turns.Watch),
		runBatches(batches, gateway),
		runJobs(async, gateway),
		adminToken,
		{start: operations.start, stop: operations.stop},
		adminAPI,
		{start: api.start, drain: api.drain, stop: api.stop},
		{drain: func() error {
			logger.Info("draining", "delay", settings.DrainDelay.String(), "timeout", settings.DrainTimeout.String())
			gateway.Drain()
			time.Sleep(settings.DrainDelay)
			return nil
		}},
	})
}

func watchCertificate(certified *certificate.Certificate) component {
	if certified == nil {
		return component{}
	}
	return background(certified.Watch)
}

// watchCharges has what was charged before known where there is a store.
func watchCharges(kept *store.Store, charges *charge.Book) component {
	if kept == nil {
		return component{}
	}
	return background(charges.Watch)
}

// keepFiles returns nil where there are no files.
func keepFiles(settings *config.Settings, opened Opened, metrics *telemetry.Metrics, logger *slog.Logger) *files.Files {
	if opened.Blobs == nil {
		return nil
	}
	return files.New(files.Options{
		Store: opened.Store, Blobs: opened.Blobs, MaxBytes: int64(settings.MaxFileBytes), MinFree: int64(settings.MinFreeBytes),
		MaxUploads: settings.MaxUploads, Now: time.Now, Observer: metrics.ReportStorage(opened.Blobs.Free), Logger: logger,
	})
}

func watchFiles(kept *files.Files) component {
	if kept == nil {
		return component{}
	}
	return background(kept.Watch)
}
