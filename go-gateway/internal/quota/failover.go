package quota

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// decisionTimeout is how long a shared store may take for a decision, before this gateway decides by itself.
	decisionTimeout = 50 * time.Millisecond
	// probeInterval is how often a store that is away is asked for.
	probeInterval = 200 * time.Millisecond
	// chargeTimeout is how long it may take to be told of some charges, of which chargesAtOnce go together.
	chargeTimeout = time.Second
	chargesAtOnce = 128
	// maxSeen is how many accounts' latest states are remembered, some 200 bytes each.
	maxSeen = 32 << 10
)

// Shared is a Store that several gateways share, and that may be away.
type Shared interface {
	Store
	// Ping succeeds if the store can decide.
	Ping(ctx context.Context) error
	// Watch does what the store has to do in the background.
	Watch(ctx context.Context)
}

// Failover is a Store that decides by a shared one; and while that is away, by a local share of every limit, which begins
// with what was last seen there, and of which the shared one is told once it is back. It is safe for concurrent use.
type Failover struct {
	shared   Shared
	now      func() time.Time
	gateways int64
	report   func(away bool, cause error)

	away    atomic.Bool
	changed chan struct{} // that it went away

	mu    sync.Mutex
	local *share // nil unless it is away
	seen  map[subject]*seen
	owed  []Charge // what the shared store is to be told, oldest first
	name  string   // of this gateway, in the charges' IDs
	ids   int64    // how many there were
}

// NewFailover returns a Failover whose local share is one of so many gateways'. It is away until Watch has found it.
// Report is told of each change.
func NewFailover(shared Shared, now func() time.Time, gateways int, report func(away bool, cause error)) *Failover {
	f := &Failover{
		shared: shared, now: now, gateways: int64(gateways), report: report,
		changed: make(chan struct{}, 1), seen: map[subject]*seen{}, name: rand.Text(),
	}
	f.begin()
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
	f.mu.Lock()
	left := f.begin()
	f.mu.Unlock()
	if left {
		f.report(true, cause)
	}
}

// begin makes a local share decide; false if one does.
func (f *Failover) begin() bool {
	if f.local != nil {
		return false
	}
	f.local = newShare(f.now, f.shared.Lease(), f.gateways, f.account)
	f.away.Store(true)
	select {
	case f.changed <- struct{}{}:
	default:
	}
	return true
}

// account is what is known of one.
func (f *Failover) account(of subject) *seen {
	known := f.seen[of]
	if known == nil {
		f.forget()
		known = &seen{}
		f.seen[of] = known
	}
	return known
}

// forget makes room for one more account, if one of which nothing runs here is soon found.
func (f *Failover) forget() {
	tries := 16
	for of, known := range f.seen {
		if len(f.seen) < maxSeen || tries == 0 {
			return
		}
		tries--
		if known.running == 0 {
			delete(f.seen, of)
		}
	}
}

// learn remembers what a decision of the shared store tells.
func (f *Failover) learn(request *Request, decision *Decision) {
	now := f.now().UnixMicro()
	for scope := range request.Limited() {
		known := f.account(request.subject(scope))
		known.limits = request.Limits[scope]
		known.learn(decision.States[scope], now, DayOf(decision.Now))
	}
}

func (s *seen) learn(state State, now, day int64) {
	s.requests, s.tokens, s.day, s.dayTokens = now+state.Requests, now+state.Tokens, day, state.DayTokens
}

// runs counts what a reservation that is not of this share runs here.
func (f *Failover) runs(reservation *Reservation, more int64) {
	for scope := range reservation.Limited() {
		if !reservation.HasLease(scope) {
			continue
		}
		known := f.account(reservation.subject(scope))
		known.running += more
		if reservation.Stream {
			known.streams += more
		}
	}
}

// Reserve implements Store. It never fails.
func (f *Failover) Reserve(ctx context.Context, request Request, instead *Reservation) (decision Decision, err error) {
	if instead != nil && instead.Degraded {
		f.Settle(*instead, 0)
		instead = nil
	}
	answered := f.ask(ctx, func(ctx context.Context) (err error) {
		decision, err = f.shared.Reserve(ctx, request, instead)
		return err
	})
	if !answered {
		if instead != nil {
			f.Settle(*instead, 0)
		}
		return f.reserveLocally(ctx, request)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.learn(&request, &decision)
	if instead != nil {
		f.runs(instead, -1)
	}
	if decision.Refusal == nil {
		f.runs(&decision.Reservation, 1)
	}
	return decision, nil
}

// errMeanwhile is the cause where a share ended between a question and its decision.
var errMeanwhile = errors.New("it came back while a request was decided on without it")

func (f *Failover) reserveLocally(ctx context.Context, request Request) (decision Decision, err error) {
	f.locally(func(local *share) {
		for scope := range request.Limited() {
			f.account(request.subject(scope)).limits = request.Limits[scope]
		}
		decision, err = local.reserve(ctx, request)
	})
	return decision, err
}

// locally decides something by the local share.
func (f *Failover) locally(decide func(*share)) {
	f.mu.Lock()
	left := f.begin()
	decide(f.local)
	f.mu.Unlock()
	if left {
		f.report(true, errMeanwhile)
	}
}

// Settle implements Store: by the share that the reservation is of, while it lasts, or by the shared store.
func (f *Failover) Settle(reservation Reservation, used int64) {
	f.mu.Lock()
	if reservation.share != nil && reservation.share == f.local {
		f.local.Settle(reservation, used)
		f.mu.Unlock()
		return
	}
	f.runs(&reservation, -1)
	f.mu.Unlock()
	f.shared.Settle(f.adopted(reservation), used)
}

// adopted is a reservation as the shared store takes it: what a share let in has been charged to the buckets, and heals.
func (f *Failover) adopted(reservation Reservation) Reservation {
	if reservation.Degraded {
		reservation.Tokens = [Scopes]Taken{}
	}
	return reservation
}

// Renew implements Store. What a share let in that has ended gets its leases in the shared store.
func (f *Failover) Renew(reservations []Reservation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var shared, local []Reservation
	for _, reservation := range reservations {
		if reservation.share != nil && reservation.share == f.local {
			local = append(local, reservation)
		} else {
			shared = append(shared, f.adopted(reservation))
		}
	}
	if f.local != nil { // else renewals would only pile up
		f.local.Renew(local)
	} else {
		f.shared.Renew(shared)
	}
}

// Hold implements Store. What is held when the shared store goes away counts in the share too, where it may have been seen
// before: the share is the smaller for it.
func (f *Failover) Hold(holds []Hold) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.local != nil {
		f.local.Hold(holds)
	} else {
		f.shared.Hold(holds)
	}
}

// errAway is the cause where a charge has to wait.
var errAway = errors.New("the shared store is away")

// Charge implements Store. It fails while the shared store is away: until then what is charged is held.
func (f *Failover) Charge(ctx context.Context, charges []Charge) ([]State, error) {
	if f.away.Load() {
		return nil, errAway
	}
	return f.tell(ctx, charges)
}

// Forget implements Store. The shares know of no charges.
func (f *Failover) Forget(charges []Charge) { f.shared.Forget(charges) }

// tell tells the shared store, and learns what it knows by then.
func (f *Failover) tell(ctx context.Context, charges []Charge) ([]State, error) {
	limited, cancel := context.WithTimeout(ctx, chargeTimeout)
	defer cancel()
	states, err := f.shared.Charge(limited, charges)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	for i := range charges {
		f.account(charges[i].subject()).learn(states[i], now.UnixMicro(), DayOf(now))
	}
	return states, nil
}

// Look implements Store. It never fails.
func (f *Failover) Look(ctx context.Context, request Request) (decision Decision, err error) {
	answered := f.ask(ctx, func(ctx context.Context) (err error) {
		decision, err = f.shared.Look(ctx, request)
		return err
	})
	if !answered {
		f.locally(func(local *share) {
			request.Limits = local.parts(request.Limits)
			decision, err = local.Look(ctx, request)
		})
		return decision, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.learn(&request, &decision)
	return decision, nil
}

// Watch looks for the shared store while it is away, and runs it, until ctx ends.
func (f *Failover) Watch(ctx context.Context) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.shared.Watch(ctx)
	}()
	defer func() { <-ended }()
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.changed:
		case <-ticker.C:
		}
		if f.away.Load() {
			f.find(ctx)
		} else {
			f.pay(ctx)
		}
	}
}

// find has the shared store decide again, if it answers as fast as decisions need it, and knows what was let in.
func (f *Failover) find(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, decisionTimeout)
	defer cancel()
	if f.shared.Ping(limited) != nil || !f.pay(ctx) {
		return
	}
	if f.bill(false); !f.pay(ctx) {
		return
	}
	f.bill(true)
	f.report(false, nil)
	f.pay(ctx) // what was let in since the last bill, a few milliseconds' worth
}

// bill adds what the share has let in to what is owed, and ends the share or does not.
func (f *Failover) bill(last bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, charge := range f.local.owed() {
		f.ids++
		charge.ID = f.name + strconv.FormatInt(f.ids, 10)
		f.owed = append(f.owed, charge)
	}
	if last {
		f.local.leave(f.account)
		f.local = nil
		f.away.Store(false)
	}
}

// pay tells the shared store what is owed, until there is nothing left; false if it did not take it.
func (f *Failover) pay(ctx context.Context) bool {
	for {
		f.mu.Lock()
		charges := f.owed[:min(len(f.owed), chargesAtOnce)]
		f.mu.Unlock()
		if len(charges) == 0 {
			return true
		}
		if _, err := f.tell(ctx, charges); err != nil {
			return false
		}
		f.mu.Lock()
		f.owed = f.owed[len(charges):]
		f.mu.Unlock()
	}
}
