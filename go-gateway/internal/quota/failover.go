package quota

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// decisionTimeout is how long a shared store may take for a decision, before this gateway decides by itself.
	decisionTimeout = 50 * time.Millisecond
	// probeInterval is how often a store that is away is asked for.
	probeInterval = 200 * time.Millisecond
)

// Shared is a Store that several gateways share, and that may be away.
type Shared interface {
	Store
	// Ping succeeds if the store can decide.
	Ping(ctx context.Context) error
	// Watch does what the store has to do in the background.
	Watch(ctx context.Context)
}

// Failover is a Store that decides by a shared one; and while that is away, by a local share of every limit. It is safe
// for concurrent use.
type Failover struct {
	shared   Shared
	local    *Memory
	gateways int64
	report   func(away bool, cause error)

	away    atomic.Bool
	changed chan struct{} // that it went away
}

// NewFailover returns a Failover whose local share is one of so many gateways'. It is away until Watch has found it.
// Report is told of each change.
func NewFailover(shared Shared, now func() time.Time, gateways int, report func(away bool, cause error)) *Failover {
	f := &Failover{
		shared: shared, local: NewMemory(now, shared.Lease()), gateways: int64(gateways), report: report, changed: make(chan struct{}, 1),
	}
	f.away.Store(true)
	f.changed <- struct{}{}
	return f
}

// Away reports whether the local share decides.
func (f *Failover) Away() bool { return f.away.Load() }

// Lease implements Store.
func (f *Failover) Lease() time.Duration { return f.shared.Lease() }

// ask asks the shared store, and takes it for away if it does not answer in time. The caller that goes away is not what
// that is judged by.
func (f *Failover) ask(ctx context.Context, question func(context.Context) error) bool {
	if f.away.Load() {
		return false
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), decisionTimeout)
	defer cancel()
	err := question(limited)
	if err != nil {
		f.leave(err)
	}
	return err == nil
}

func (f *Failover) leave(cause error) {
	if f.away.CompareAndSwap(false, true) {
		f.report(true, cause)
		f.changed <- struct{}{} // it is read whenever away is set back
	}
}

// Reserve implements Store. It never fails.
func (f *Failover) Reserve(ctx context.Context, request Request, instead *Reservation) (decision Decision, err error) {
	if instead != nil && instead.Degraded {
		f.local.Settle(*instead, 0)
		instead = nil
	}
	answered := f.ask(ctx, func(ctx context.Context) (err error) {
		decision, err = f.shared.Reserve(ctx, request, instead)
		return err
	})
	if answered {
		return decision, nil
	}
	if instead != nil {
		f.shared.Settle(*instead, 0)
	}
	return f.reserveLocally(ctx, request)
}

// reserveLocally decides by the local share.
func (f *Failover) reserveLocally(ctx context.Context, request Request) (Decision, error) {
	largest, _, _ := request.Largest()
	wanted := request.MinTokens
	request.Limits = f.share(request.Limits)
	decision, err := f.local.Reserve(ctx, request, nil)
	decision.Reservation.Degraded = true
	// What is more than the share only has to wait until the store is back.
	if refusal := decision.Refusal; refusal != nil && refusal.TooLarge && wanted <= largest {
		refusal.TooLarge, refusal.RetryAfter = false, time.Minute
	}
	return decision, err
}

// share is this gateway's part of limits, at least one of each.
func (f *Failover) share(of [Scopes]Limits) [Scopes]Limits {
	part := func(limit int64) int64 {
		if limit == 0 {
			return 0
		}
		return max(1, limit/f.gateways)
	}
	for scope := range of {
		l := &of[scope]
		l.RequestBurst = part(l.Burst())
		l.RequestsPerMinute, l.TokensPerMinute, l.TokensPerDay = part(l.RequestsPerMinute), part(l.TokensPerMinute), part(l.TokensPerDay)
		l.ConcurrentRequests, l.ConcurrentStreams = part(l.ConcurrentRequests), part(l.ConcurrentStreams)
	}
	return of
}

// Settle implements Store: by the store that the reservation is of.
func (f *Failover) Settle(reservation Reservation, used int64) {
	if reservation.Degraded {
		f.local.Settle(reservation, used)
		return
	}
	f.shared.Settle(reservation, used)
}

// Renew implements Store.
func (f *Failover) Renew(reservations []Reservation) {
	var shared, local []Reservation
	for _, reservation := range reservations {
		if reservation.Degraded {
			local = append(local, reservation)
		} else {
			shared = append(shared, reservation)
		}
	}
	f.local.Renew(local)
	if !f.Away() { // else renewals would only pile up
		f.shared.Renew(shared)
	}
}

// Look implements Store. It never fails.
func (f *Failover) Look(ctx context.Context, request Request) (decision Decision, err error) {
	answered := f.ask(ctx, func(ctx context.Context) (err error) {
		decision, err = f.shared.Look(ctx, request)
		return err
	})
	if answered {
		return decision, nil
	}
	request.Limits = f.share(request.Limits)
	return f.local.Look(ctx, request)
}

// Watch looks for the shared store while it is away, and runs it, until ctx ends.
func (f *Failover) Watch(ctx context.Context) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.shared.Watch(ctx)
	}()
	defer func() { <-ended }()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.changed:
		}
		if !f.find(ctx) {
			return
		}
		f.away.Store(false)
		f.report(false, nil)
	}
}

// find waits until the shared store answers as fast as decisions need it; false if ctx ended before.
func (f *Failover) find(ctx context.Context) bool {
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	for {
		limited, cancel := context.WithTimeout(ctx, decisionTimeout)
		err := f.shared.Ping(limited)
		cancel()
		if err == nil {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
}
