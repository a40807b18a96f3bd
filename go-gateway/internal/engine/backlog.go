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
	// busyTokens are so many that a replica which has them to do is measured at work, and not by the odd small run.
	busyTokens = 1000
)

// ModelLoad is what a replica last said that it has to do of a model, of all gateways; zero while it says nothing.
type ModelLoad struct {
	QueuedTokens, RunningTokens uint64
	// TokensPerSecond are how many it does, as its latest runs were measured.
	TokensPerSecond float64
	// Rows are those in use of MaxRows, which is 0 where they are not told.
	Rows, MaxRows   uint32
	WaitingRequests uint64
}

// backlogs are about how long a replica needs for all that it has of each model, by what it last said. The zero value
// knows of none.
type backlogs struct {
	byModel atomic.Pointer[map[string]backlog]
}

// backlog is that of one model, and what was said.
type backlog struct {
	takes time.Duration
	said  ModelLoad
	// fastest are the most tokens a second that were said while it was busy; 0 before that.
	fastest float64
}

// tell takes note of what the replica says.
func (b *backlogs) tell(models []*inferencev1.ModelLoad) {
	byModel := make(map[string]backlog, len(models))
	for _, model := range models {
		said := ModelLoad{
			QueuedTokens: model.GetQueuedTokens(), RunningTokens: model.GetRunningTokens(), TokensPerSecond: model.GetTokensPerSecond(),
			Rows: model.GetRows(), MaxRows: model.GetMaxRows(), WaitingRequests: model.GetWaitingRequests(),
		}
		fastest := b.known(model.GetModel()).fastest
		if said.QueuedTokens >= busyTokens || said.RunningTokens >= busyTokens {
			fastest = max(fastest, said.TokensPerSecond)
		}
		byModel[model.GetModel()] = backlog{backlogOf(model), said, fastest}
	}
	b.byModel.Store(&byModel)
}

// forget is for a replica of which nothing is told any longer.
func (b *backlogs) forget() { b.byModel.Store(nil) }

// of returns that of a model; 0 where it is not known.
func (b *backlogs) of(model string) time.Duration { return b.known(model).takes }

// said returns what was said of a model.
func (b *backlogs) said(model string) ModelLoad { return b.known(model).said }

func (b *backlogs) known(model string) backlog {
	byModel := b.byModel.Load()
	if byModel == nil {
		return backlog{}
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
	candidates := e.candidates(task{model: model})
	if len(candidates) == 0 {
		return 0
	}
	least := longestBacklog
	for _, r := range candidates {
		least = min(least, r.backlogs.of(model))
	}
	return least
}

// Fastest is how many tokens of a model a second have been done, while there was enough to do, by the fastest of the
// replicas that a call may go to; 0 where that is not known of one of them.
func (e *Engine) Fastest(model string) float64 {
	fastest := 0.0
	for _, r := range e.candidates(task{model: model}) {
		known := r.backlogs.known(model).fastest
		if !(known > 0) { // nor is it a number
			return 0
		}
		fastest = max(fastest, known)
	}
	return fastest
}
