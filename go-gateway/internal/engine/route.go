package engine

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"triptych.dev/gateway/internal/fault"
)

// How much is to be said for sending a replica a call for a model, best first.
const (
	works         = iota // it did so lately
	serves               // it says that it serves the model
	mayServe             // it is connected, and has not said which models it has
	doesNotServe         // it has the model, which is loading or failed: it can say so itself
	isLost               // it is not connected, and had the model
	lacks                // it has not got the model
	isUnreachable        // it is not connected, and nothing is known of it
)

// suitability ranks a replica for a model.
func (r *replica) suitability(model string, since time.Time) int {
	rank := r.readiness.suitability(model, since)
	if r.connected() {
		return rank
	}
	if rank <= isLost && rank != mayServe {
		return isLost
	}
	return isUnreachable
}

// candidates returns the replicas to try for a model, in their order: those with less to do before others that are as
// suitable, going by what they say, which counts for all gateways, and then by the calls of this one. There is one at least. One that does not serve the model is asked only if none does, for the reason.
func (e *Engine) candidates(model string) []*replica {
	type candidate struct {
		*replica
		rank        int
		backlog     time.Duration
		outstanding int64
	}
	since := e.options.Now().Add(-e.options.ReadyWindow)
	list := make([]candidate, len(e.replicas))
	for i, j := range rand.Perm(len(list)) { // so that equals take turns
		r := e.replicas[j]
		list[i] = candidate{r, r.suitability(model, since), r.load.backlog(model), r.outstanding.Load()}
	}
	slices.SortStableFunc(list, func(a, b candidate) int {
		return cmp.Or(
			cmp.Compare(a.rank, b.rank), cmp.Compare(a.backlog, b.backlog), cmp.Compare(a.outstanding, b.outstanding),
		)
	})
	best := []*replica{list[0].replica}
	for _, next := range list[1:] {
		if next.rank <= mayServe || next.rank == list[0].rank {
			best = append(best, next.replica)
		}
	}
	return best
}

// route makes a call to the best replica for a model, and to the next one if that has not begun to work on it.
func (e *Engine) route(
	ctx context.Context, method, model string, timeout time.Duration, call func(context.Context, *attempt) error,
) (failure *fault.Fault) {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for _, r := range e.candidates(model) {
		a, start := &attempt{replica: r}, time.Now()
		r.outstanding.Add(1)
		err := call(context.WithValue(limited, attemptKey{}, a), a)
		r.outstanding.Add(-1)
		outcome := r.observe(ctx, method, start, err, timeout)
		if outcome == nil {
			return nil
		}
		r.readiness.failed(model, outcome)
		if failure == nil || a.sent.Load() { // what a replica says tells more than that one is not there
			failure = outcome
		}
		if !a.retryable(outcome) || limited.Err() != nil {
			break
		}
	}
	if failure.Reason == fault.ModelNotFound {
		failure.Message = e.noSuchModel(model)
	}
	return failure
}

// noSuchModel says what there is in place of a model.
func (e *Engine) noSuchModel(model string) string {
	const most = 16
	models, err := e.Models()
	if err != nil || len(models) == 0 {
		return fmt.Sprintf("There is no model %.64q here.", model)
	}
	var names []string
	for _, found := range models[:min(len(models), most)] {
		names = append(names, found.GetName())
	}
	return fmt.Sprintf("There is no model %.64q here; there is %s.", model, fault.Listed(names, len(models)-len(names)))
}

// retryable reports whether nothing was computed for a call that failed.
func (a *attempt) retryable(failure *fault.Fault) bool {
	if a.answered || failure.Reason == fault.Cancelled {
		return false
	}
	switch failure.Reason {
	case fault.ModelNotReady, fault.ModelNotFound:
		return true
	default:
		return !a.sent.Load()
	}
}
