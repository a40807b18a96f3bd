package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

var errNoReplica = errors.New("no hot path is known: no name has been resolved")

// batchPatience is how many times as long a call of the class batch may take: it has what others leave, and nobody waits for it.
const batchPatience = 12

// task is what a call is, its message aside.
type task struct {
	method, model string
	tokens        int64 // about so many
	timeout       time.Duration
	home          uint64 // calls with the same one belong on one replica; 0: it may go anywhere
	lane          lane   // of the queue that it waits in
}

// route makes a call to the best replica for it, and to the next one if that has not begun to work on it.
func (e *Engine) route(ctx context.Context, t task, call func(context.Context, *attempt) error) (failure *fault.Fault) {
	if t.lane.priority == inferencev1.Priority_PRIORITY_BATCH {
		t.timeout *= batchPatience
	}
	limited, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	if isOfCaller(ctx, limited) { // for the message
		own, _ := ctx.Deadline()
		t.timeout = time.Until(own).Round(time.Millisecond)
	}
	e.retries.earn()
	retry := false
	candidates := e.candidates(t)
	if len(candidates) > 0 { // one that may have room comes first
		if failure := candidates[0].full.fault(t, e.options.Now()); failure != nil {
			e.options.Metrics.KnownFull.Inc()
			return failure
		}
	}
	for _, r := range candidates {
		if retry && !e.retries.take(e.options.Now()) {
			e.options.Metrics.RefusedRetries.Inc()
			break
		}
		if !r.work.begin(t.tokens) { // it has left just now
			continue
		}
		if retry {
			r.retries.Add(1)
		}
		a := &attempt{replica: r}
		outcome := e.try(ctx, limited, t, a, call)
		if outcome == nil {
			return nil
		}
		r.readiness.failed(t.model, outcome)
		if failure == nil || a.sent.Load() { // what a replica says tells more than that one is not there
			failure = outcome
		}
		if !a.retryable(outcome) || limited.Err() != nil {
			break
		}
		retry = true
	}
	if failure == nil {
		failure = unavailable(errNoReplica)
	}
	if failure.Reason == fault.ModelNotFound {
		failure.Message = e.noSuchModel(t.model)
	}
	return failure
}

// try makes a call to one replica, and draws conclusions from how it went. limited is ctx with the call's timeout.
func (e *Engine) try(
	ctx, limited context.Context, t task, a *attempt, call func(context.Context, *attempt) error,
) *fault.Fault {
	r, start, began := a.replica, time.Now(), e.options.Now()
	defer func() {
		if r.work.end(t.tokens) {
			e.pool.gone(r)
		}
	}()
	limited, span := startSpan(limited, t.method, r.address)
	err := call(context.WithValue(limited, attemptKey{}, a), a)
	a.took = e.options.Now().Sub(began)
	failure := r.observe(ctx, t.method, start, err, t.timeout)
	endSpan(span, err, failure)
	switch {
	case failure == nil:
		r.ejection.succeeded()
	case isDraining(failure):
		r.draining.Store(true)
	case failure.Reason == fault.DeadlineExceeded && isOfCaller(ctx, limited): // it says nothing of the replica
	case failure.Reason == fault.QueueFull:
		r.full.note(t, failure, began)
	case ctx.Err() == nil && !a.answered && isOwn(failure):
		e.pool.failed(r, failure)
	}
	if failure != nil {
		failure.CutOff = failure.Reason == fault.HotpathUnavailable && !isDraining(failure) && a.sent.Load()
	}
	return failure
}

// isOfCaller reports whether the deadline of a call is its caller's own.
func isOfCaller(ctx, limited context.Context) bool {
	own, has := ctx.Deadline()
	until, _ := limited.Deadline()
	return has && own.Equal(until)
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
