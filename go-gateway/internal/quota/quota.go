// Package quota decides whether a tenant may do something now. Today it counts requests; tokens and concurrency belong
// here too.
//
// The algorithm is the generic cell rate algorithm (a token bucket that is stored as one point in time), because one
// number per tenant is all that several replicas would have to share. It must not depend on HTTP, nor read a clock.
package quota

import (
	"sync"
	"time"
)

// Limit is a token bucket.
type Limit struct {
	// PerMinute is how many requests are given back in a minute.
	PerMinute int
	// Burst is how many requests a full bucket holds.
	Burst int
}

// Decision is the answer to one request, and what the caller may be told.
type Decision struct {
	Allowed bool
	// Remaining is how many more requests would be allowed now.
	Remaining int
	// Reset is when the bucket is full again.
	Reset time.Duration
	// RetryAfter is when a request would be allowed; 0 if this one was.
	RetryAfter time.Duration
}

// RoundUp rounds a wait up to milliseconds: who waits as long must not come too early.
func RoundUp(d time.Duration) time.Duration {
	return (d + time.Millisecond - 1).Truncate(time.Millisecond)
}

// Requests limits the request rate of each tenant, in this process. It is safe for concurrent use.
type Requests struct {
	mu      sync.Mutex
	full    map[string]time.Time // when a tenant's bucket is full again; an absent one is full
	sweepAt int                  // number of entries at which full buckets are forgotten
}

// minSweepSize spares a short map from being swept.
const minSweepSize = 1024

// NewRequests returns a limiter whose buckets are all full.
func NewRequests() *Requests {
	return &Requests{full: map[string]time.Time{}, sweepAt: minSweepSize}
}

// Take asks for one request of a tenant at a time, which must not go backwards by much. A refused request costs
// nothing.
func (q *Requests) Take(tenant string, limit Limit, now time.Time) Decision {
	interval := time.Minute / time.Duration(limit.PerMinute)
	capacity := interval * time.Duration(limit.Burst)

	q.mu.Lock()
	defer q.mu.Unlock()
	used := max(0, q.full[tenant].Sub(now))
	if after := used + interval; after > capacity {
		return Decision{Reset: used, RetryAfter: after - capacity}
	}
	used += interval
	q.full[tenant] = now.Add(used)
	q.sweep(now)
	return Decision{Allowed: true, Remaining: int((capacity - used) / interval), Reset: used}
}

// Refund gives one request back that was taken and could not be served.
func (q *Requests) Refund(tenant string, limit Limit) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if full, known := q.full[tenant]; known { // a bucket that was swept meanwhile is full
		q.full[tenant] = full.Add(-time.Minute / time.Duration(limit.PerMinute))
	}
}

// sweep forgets full buckets whenever their number has doubled, so that memory follows the number of active tenants.
func (q *Requests) sweep(now time.Time) {
	if len(q.full) < q.sweepAt {
		return
	}
	for tenant, full := range q.full {
		if !full.After(now) {
			delete(q.full, tenant)
		}
	}
	q.sweepAt = max(minSweepSize, 2*len(q.full))
}
