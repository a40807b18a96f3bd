package main

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// sayAgain is how often a trouble that lasts is in the log.
const sayAgain = 30 * time.Second

// trouble keeps what all messages meet from being a line for each.
type trouble struct {
	logger *slog.Logger

	mutex sync.Mutex
	since map[string]time.Time // by what is in trouble
	said  map[string]time.Time
}

func (t *trouble) report(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.since == nil {
		t.since, t.said = map[string]time.Time{}, map[string]time.Time{}
	}
	now := time.Now()
	if t.since[what].IsZero() {
		t.since[what] = now
	}
	if now.Sub(t.said[what]) >= sayAgain {
		t.said[what] = now
		t.logger.Warn("waiting", "for", what, "error", err.Error(), "seconds", int(now.Sub(t.since[what]).Seconds()))
	}
}

func (t *trouble) over(what string) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if since := t.since[what]; !since.IsZero() {
		delete(t.since, what)
		delete(t.said, what)
		t.logger.Info("waiting is over", "for", what, "seconds", int(time.Since(since).Seconds()))
	}
}
