package engine

import (
	"sync/atomic"
	"time"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

const (
	// tellInterval is how old what a replica says may be: of less than it takes to get done, it is not known whether it is
	// still there.
	tellInterval = 250 * time.Millisecond
	// longestBacklog is far beyond what any request waits for.
	longestBacklog = time.Hour
)

// backlogs are about how long a replica needs for all that it has of each model, by what it last said. The zero value
// knows of none.
type backlogs struct {
	byModel atomic.Pointer[map[string]time.Duration]
}

// tell takes note of what the replica says.
func (b *backlogs) tell(models []*inferencev1.ModelLoad) {
	byModel := make(map[string]time.Duration, len(models))
	for _, model := range models {
		byModel[model.GetModel()] = backlogOf(model)
	}
	b.byModel.Store(&byModel)
}

// forget is for a replica of which nothing is told any longer.
func (b *backlogs) forget() { b.byModel.Store(nil) }

// of returns that of a model; 0 where it is not known.
func (b *backlogs) of(model string) time.Duration {
	byModel := b.byModel.Load()
	if byModel == nil {
		return 0
	}
	return (*byModel)[model]
}

// backlogOf is in whole intervals.
func backlogOf(said *inferencev1.ModelLoad) time.Duration {
	tokens, rate := float64(said.GetQueuedTokens())+float64(said.GetRunningTokens()), said.GetTokensPerSecond()
	if !(rate > 0) { // nor is it a number
		return 0
	}
	seconds := min(tokens/rate, longestBacklog.Seconds())
	return time.Duration(seconds * float64(time.Second)).Truncate(tellInterval)
}

// Backlog is about how long the replica with the least to do, of those that a call for a model may go to, needs for all
// that it has; 0 where that is not known.
func (e *Engine) Backlog(model string) time.Duration {
	candidates := e.candidates(model, 0)
	if len(candidates) == 0 {
		return 0
	}
	least := longestBacklog
	for _, r := range candidates {
		least = min(least, r.backlogs.of(model))
	}
	return least
}
