package webhook

import (
	"context"
	"sync"
	"time"

	"triptych.dev/gateway/internal/store"
)

// shares are how many attempts are under way, by tenant and by webhook. A receiver that does not answer holds its webhook's
// share, and no more: what else waits is claimed past it.
type shares struct {
	perTenant, perHook int

	mu             sync.Mutex
	tenants, hooks map[string]int
}

// newShares gives a tenant a quarter of the workers at most, and a webhook a sixteenth.
func newShares(workers int) *shares {
	return &shares{perTenant: max(1, workers/4), perHook: max(1, workers/16), tenants: map[string]int{}, hooks: map[string]int{}}
}

// take takes a place, whether there is one or not: what calls it has seen to that, or counts as one more.
func (s *shares) take(tenant, hook string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tenants[tenant]++
	s.hooks[hook]++
}

// tryTake takes a place if there is one.
func (s *shares) tryTake(tenant, hook string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tenants[tenant] >= s.perTenant || s.hooks[hook] >= s.perHook {
		return false
	}
	s.tenants[tenant]++
	s.hooks[hook]++
	return true
}

func (s *shares) release(tenant, hook string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	drop(s.tenants, tenant)
	drop(s.hooks, hook)
}

func drop(counts map[string]int, name string) {
	if counts[name]--; counts[name] == 0 {
		delete(counts, name)
	}
}

// busy are those that have their share.
func (s *shares) busy() (busy store.Busy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for tenant, n := range s.tenants {
		if n >= s.perTenant {
			busy.Tenants = append(busy.Tenants, tenant)
		}
	}
	for hook, n := range s.hooks {
		if n >= s.perHook {
			busy.Args = append(busy.Args, hook)
		}
	}
	return busy
}

// sharing is a store of which no more is claimed than shares allow. The place of a claimed job is its handler's to release.
type sharing struct {
	*store.Store
	shares *shares
}

// ClaimJobs claims one by one, since each may fill a share.
func (s sharing) ClaimJobs(ctx context.Context, queue, owner string, most int, lease time.Duration) (jobs []store.Job, err error) {
	for len(jobs) < most {
		next, err := s.ClaimJobsExcept(ctx, queue, owner, 1, lease, s.shares.busy())
		if err != nil || len(next) == 0 {
			return jobs, err
		}
		s.shares.take(next[0].Tenant, next[0].Args)
		jobs = append(jobs, next[0])
	}
	return jobs, nil
}
