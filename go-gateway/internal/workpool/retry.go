package workpool

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// Retry is when an item is worked on once more. It keeps its worker while it waits, so that what fails slows the pool down.
type Retry struct {
	Attempts int // in all; 0 and 1: no item is tried again
	// Base and Max bound the pause, which is random: up to Base after the first attempt, twice that after each further one,
	// and never more than Max.
	Base, Max time.Duration
	// Budget is how many retries there are for an item on average, beside the first ten: where everything fails, little is
	// tried in vain. 0: as many as Attempts say.
	Budget float64
	// If says whether an error is worth another attempt, and what pause it asks for, to which the random one is added. Nil:
	// every error is.
	If func(error) (pause time.Duration, again bool)
}

// backOff is the random pause after so many attempts.
func (r *Retry) backOff(attempts int) time.Duration {
	limit := r.Max
	if doublings := attempts - 1; doublings < 63 && r.Base < r.Max>>doublings {
		limit = r.Base << doublings
	}
	return rand.N(max(limit, 0) + 1)
}

// Sleep waits as a worker does between two attempts. It is false if ctx ends before the time is over.
func Sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// unearned is how many retries there are in any case.
const unearned = 10

// budget bounds retries by the number of items.
type budget struct {
	share float64 // 0: no bound

	mutex sync.Mutex
	left  float64 // but for the unearned
}

func (b *budget) earn() {
	if b.share > 0 {
		b.mutex.Lock()
		defer b.mutex.Unlock()
		b.left += b.share
	}
}

func (b *budget) spend() bool {
	if b.share <= 0 {
		return true
	}
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.left+unearned < 1 {
		return false
	}
	b.left--
	return true
}
