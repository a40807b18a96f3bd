package app

import (
	"context"
	"log/slog"
	"time"

	"triptych.dev/gateway/internal/batch"
	"triptych.dev/gateway/internal/charge"
	"triptych.dev/gateway/internal/config"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/queue"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/server"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/tracing"
)

// batchDrain is as long as a segment takes.
const batchDrain = 10 * time.Second

// keepBatches returns nil where there are no files.
func keepBatches(settings *config.Settings, opened Opened, kept *files.Files, charges *charge.Book, turns *batch.Turns, observer queue.Observer, tracer *tracing.Tracer, logger *slog.Logger) *batch.Batches {
	if kept == nil {
		return nil
	}
	return batch.New(batch.Options{
		Store: opened.Store, Files: kept, PlanOf: opened.Directory.PlanOf, Charges: charges, Turns: turns, Segments: settings.BatchSegments, Lines: settings.BatchLines,
		Drain: batchDrain, Now: time.Now, Observer: observer, Tracer: tracer, Logger: logger,
	})
}

// runBatches serves their lines as the API serves requests.
func runBatches(batches *batch.Batches, gateway *server.Server) component {
	if batches == nil {
		return component{}
	}
	return background(func(ctx context.Context) { batches.Watch(ctx, executeBy(gateway)) })
}

// executeBy serves what nobody waits for.
func executeBy(gateway *server.Server) batch.Execute {
	return func(ctx context.Context, request batch.Request) batch.Reply {
		executed := gateway.Execute(ctx, server.Execution{
			Principal: request.Principal, Class: quota.Batch, RequestID: request.ID, Endpoint: request.Endpoint, Body: request.Body, Pending: request.Pending,
		})
		usage := executed.Usage
		return batch.Reply{
			Status: executed.Status, Body: executed.Body, Failure: executed.Failure, NoRoom: executed.NoRoom(),
			Tokens: store.BatchTokens{
				Input: int64(usage.PromptTokens), Cached: int64(usage.CachedTokens), Output: int64(usage.CompletionTokens),
			},
		}
	}
}
