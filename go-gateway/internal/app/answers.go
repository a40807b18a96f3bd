package app

import (
	"context"
	"log/slog"
	"time"

	"triptych.dev/gateway/internal/store"
)

const forgetInterval = time.Minute

// forgetAnswers removes answers to creations that are kept no more, in small steps.
func forgetAnswers(kept *store.Store, logger *slog.Logger) component {
	return background(func(ctx context.Context) {
		ticker := time.NewTicker(forgetInterval)
		defer ticker.Stop()
		for {
			for {
				pruned, err := kept.PruneAnswers(ctx)
				if err != nil && ctx.Err() == nil {
					logger.Warn("answers of more than a day ago could not be removed; this is tried again", "cause", err)
				}
				if err != nil || pruned == 0 {
					break
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	})
}
