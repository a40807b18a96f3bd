package engine

import (
	"sync"
	"time"

	"triptych.dev/gateway/internal/fault"
)

const (
	// maxAttempts is how many replicas one call is sent to at most.
	maxAttempts = 3
	// Of calls, so many may be retried in the long run: where most calls fail, trying them elsewhere is more load when
	// there is least to spare.
	retryShare = 0.1
	// A few a second always, for gateways with few calls; and so many at once, for a replica that goes away under load.
	retriesPerSecond = 2
	retryBurst       = 64
)

// retryBudget bounds retries to a share of the calls.
type retryBudget struct {
	mu      sync.Mutex
	spent   float64 // of retryBurst
	touched time.Time
}

// earn takes note of a call.
func (b *retryBudget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spent = max(0, b.spent-retryShare)
}

// take reports whether there may be one more retry, and counts it.
func (b *retryBudget) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.touched.IsZero() {
		b.spent = max(0, b.spent-retriesPerSecond*max(0, now.Sub(b.touched)).Seconds())
	}
	b.touched = now
	if b.spent > retryBurst-1 {
		return false
	}
	b.spent++
	return true
}

// drainRefusal is within what time a hot path that drains refuses a call that it has not begun. One that it has begun
// comes to the same end when the drain has taken too long, which is far more than that.
const drainRefusal = time.Second

// retryable reports whether nothing was computed for a call that failed.
func (a *attempt) retryable(failure *fault.Fault) bool {
	if a.answered || failure.Reason == fault.Cancelled {
		return false
	}
	switch {
	case failure.Reason == fault.ModelNotReady, failure.Reason == fault.ModelNotFound:
		return true
	case isDraining(failure):
		return a.took < drainRefusal
	default:
		return !a.sent.Load()
	}
}

// isDraining reports whether the hot path says that it is going.
func isDraining(failure *fault.Fault) bool {
	return failure.Reason == fault.HotpathUnavailable && isDescribed(failure.Cause)
}
