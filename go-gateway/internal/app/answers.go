package app

import (
	"context"
	"log/slog"
	"time"

	"triptych.dev/gateway/internal/periodic"
	"triptych.dev/gateway/internal/store"
)

const forgetInterval = time.Minute

// forgetAnswers removes answers to creations that are kept no more, in small steps.
func forgetAnswers(kept *store.Store, logger *slog.Logger) component {
	var trouble periodic.Trouble
	forget := func(ctx context.Context) {
		err := periodic.Steps(ctx, kept.PruneAnswers)
		if ctx.Err() == nil && trouble.Began(err) {
			logger.Warn("answers of more than a day ago could not be removed; this is tried again", "cause", err)
		}
	}
	return background(func(ctx context.Context) { periodic.AtOnceAndEvery(ctx, forgetInterval, forget) })
}
