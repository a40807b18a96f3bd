package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"triptych.dev/gateway/internal/fault"
)

var errNoReplica = errors.New("no hot path is known: no name has been resolved")

// route makes a call of about so many tokens to the best replica for a model, and to the next one if that has not begun
// to work on it.
func (e *Engine) route(
	ctx context.Context, method, model string, tokens int64, timeout time.Duration, call func(context.Context, *attempt) error,
) (failure *fault.Fault) {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if isOfCaller(ctx, limited) { // for the message
		own, _ := ctx.Deadline()
		timeout = time.Until(own).Round(time.Millisecond)
	}
	e.retries.earn()
	retry := false
	for _, r := range e.candidates(model) {
		if retry && !e.retries.take(e.options.Now()) {
			break
		}
		if !r.work.begin(tokens) { // it has left just now
			continue
		}
		a := &attempt{replica: r}
		outcome := e.try(ctx, limited, method, tokens, timeout, a, call)
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
		retry = true
	}
	if failure == nil {
		failure = unavailable(errNoReplica)
	}
	if failure.Reason == fault.ModelNotFound {
		failure.Message = e.noSuchModel(model)
	}
	return failure
}

// try makes a call to one replica, and draws conclusions from how it went. limited is ctx with the call's timeout.
func (e *Engine) try(
	ctx, limited context.Context, method string, tokens int64, timeout time.Duration, a *attempt,
	call func(context.Context, *attempt) error,
) *fault.Fault {
	r, start := a.replica, time.Now()
	defer func() {
		if r.work.end(tokens) {
			e.pool.gone(r)
		}
	}()
	err := call(context.WithValue(limited, attemptKey{}, a), a)
	failure := r.observe(ctx, method, start, err, timeout)
	switch {
	case failure == nil:
		r.ejection.succeeded()
	case failure.Reason == fault.DeadlineExceeded && isOfCaller(ctx, limited): // it says nothing of the replica
	case ctx.Err() == nil && !a.answered && isOwn(failure):
		e.pool.failed(r, failure)
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
