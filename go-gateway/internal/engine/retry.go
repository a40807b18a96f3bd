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
