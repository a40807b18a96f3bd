package app

import (
	"context"
	"log/slog"
	"time"

	"triptych.dev/gateway/internal/batch"
	"triptych.dev/gateway/internal/charge"
	"triptych.dev/gateway/internal/config"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/jobs"
	"triptych.dev/gateway/internal/openai"
	"triptych.dev/gateway/internal/queue"
	"triptych.dev/gateway/internal/server"
	"triptych.dev/gateway/internal/tracing"
)

// keepJobs returns nil where there are no files.
func keepJobs(settings *config.Settings, opened Opened, kept *files.Files, charges *charge.Book, turns *batch.Turns, decoder *openai.Decoder, waiting func(int, time.Time), observer queue.Observer, tracer *tracing.Tracer, logger *slog.Logger) *jobs.Jobs {
	if kept == nil {
		return nil
	}
	return jobs.New(jobs.Options{
		Store: opened.Store, Files: kept, PlanOf: opened.Directory.PlanOf, Charges: charges, Turns: turns, Workers: settings.JobWorkers, MaxOpen: settings.MaxOpenJobs,
		TextsOf: decoder.ModerationTexts, MaxReviews: settings.MaxPendingReviews, MaxReviewBytes: int64(settings.MaxReviewBytes), ReviewKept: settings.ReviewKept, Waiting: waiting,
		Window: settings.JobWindow, Kept: settings.JobKept, Drain: batchDrain, Now: time.Now, Observer: observer, Tracer: tracer, Logger: logger,
	})
}

// runJobs serves them as the API serves requests.
func runJobs(kept *jobs.Jobs, gateway *server.Server) component {
	if kept == nil {
		return component{}
	}
	return background(func(ctx context.Context) { kept.Watch(ctx, executeBy(gateway)) })
}
