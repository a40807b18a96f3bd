package quota

import (
	"context"
	"sync"
	"time"
)

// subject is whose account it is: a tenant's, or one of its keys'.
type subject struct {
	scope       Scope
	tenant, key string // the key is empty for the tenant's own
	class       Class
}

func (r *Request) subject(scope Scope) subject {
	if scope == Tenant {
		return subject{tenant: r.Tenant, class: r.Class}
	}
	return subject{scope, r.Tenant, r.Key, r.Class}
}

// minSweepSize spares a short map from being swept.
const minSweepSize = 1024

// Memory is a Store in this process, for a gateway that is alone.
type Memory struct {
	now   func() time.Time
	lease time.Duration
	start func(subject) *account // what an account begins as

	mu       sync.Mutex
	accounts map[subject]*account
	sweepAt  int // number of accounts at which idle ones are forgotten
	// charged are the charges that were told on a day, and may be again: those of other days change nothing any more.
	charged   map[chargeOf]struct{}
	chargedOn int64
}

// chargeOf is one subject's charge.
type chargeOf struct {
	subject
	id string
}

// NewMemory returns an empty Memory with a clock, which must not go back by much.
func NewMemory(now func() time.Time, lease time.Duration) *Memory {
	return &Memory{
		now: now, lease: lease, start: func(subject) *account { return &account{} }, accounts: map[subject]*account{}, sweepAt: minSweepSize,
		charged: map[chargeOf]struct{}{},
	}
}

// Lease implements Store.
func (m *Memory) Lease() time.Duration { return m.lease }

// Reserve implements Store. It never fails.
func (m *Memory) Reserve(_ context.Context, request Request, instead *Reservation) (Decision, error) {
	now := m.now()
	µs := now.UnixMicro()
	m.mu.Lock()
	defer m.mu.Unlock()
	if instead != nil {
		m.settle(instead, 0, µs)
	}
	decision := Decision{Now: now, Limits: request.Limits}
	var accounts [Scopes]*account
	for scope := range request.Limited() {
		accounts[scope] = m.account(request.subject(scope), µs)
		decision.States[scope] = accounts[scope].state(µs)
	}
	granted, refusal := request.decide(decision.States, now)
	if refusal != nil {
		decision.Refusal = refusal
		return decision, nil
	}
	decision.Reservation = Reservation{Request: request, Granted: granted, Day: DayOf(now)}
	for scope := range request.Limited() {
		accounts[scope].take(&decision.Reservation, scope, µs, m.lease)
		decision.States[scope] = accounts[scope].state(µs)
	}
	return decision, nil
}

// Settle implements Store.
func (m *Memory) Settle(reservation Reservation, used int64) {
	now := m.now().UnixMicro()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settle(&reservation, used, now)
}

func (m *Memory) settle(reservation *Reservation, used, now int64) {
	for scope := range reservation.Limited() {
		m.account(reservation.subject(scope), now).settle(reservation, scope, used, now)
	}
}

// Renew implements Store.
func (m *Memory) Renew(reservations []Reservation) {
	now := m.now().UnixMicro()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range reservations {
		for scope := range reservations[i].Limited() {
			if reservations[i].HasLease(scope) {
				m.account(reservations[i].subject(scope), now).begin(
					reservations[i].ID, leaseOf(&reservations[i], scope, now, m.lease))
			}
		}
	}
}

// Hold implements Store.
func (m *Memory) Hold(holds []Hold) {
	now := m.now().UnixMicro()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range holds {
		for scope := range Scopes {
			of := holds[i].subject(scope)
			if _, charged := m.charged[chargeOf{of, holds[i].ID}]; !holds[i].Holds(scope) || charged {
				continue
			}
			account := m.account(of, now)
			if holds[i].Over {
				account.release(holds[i].ID)
			} else {
				account.hold(holds[i].ID, hold{now + m.lease.Microseconds(), holds[i].Day, holds[i].Tokens})
			}
		}
	}
}

// Charge implements Store. It never fails.
func (m *Memory) Charge(_ context.Context, charges []Charge) ([]State, error) {
	now := m.now()
	µs, today := now.UnixMicro(), DayOf(now)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.chargedOn < today {
		clear(m.charged)
		m.chargedOn = today
	}
	states := make([]State, len(charges))
	for i := range charges {
		of := chargeOf{charges[i].subject(), charges[i].ID}
		account := m.account(of.subject, µs)
		account.release(of.id)
		if _, charged := m.charged[of]; !charged {
			m.charged[of] = struct{}{}
			account.charge(&charges[i], µs)
		}
		states[i] = account.state(µs)
	}
	return states, nil
}

// Forget implements Store.
func (m *Memory) Forget(charges []Charge) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range charges {
		delete(m.charged, chargeOf{charges[i].subject(), charges[i].ID})
	}
}

// Look implements Store. It never fails.
func (m *Memory) Look(_ context.Context, request Request) (Decision, error) {
	now := m.now()
	decision := Decision{Limits: request.Limits, Now: now}
	m.mu.Lock()
	defer m.mu.Unlock()
	for scope := range request.Limited() {
		of := request.subject(scope)
		account, known := m.accounts[of]
		if !known {
			account = m.start(of) // and is forgotten
		}
		decision.States[scope] = account.state(now.UnixMicro())
	}
	return decision, nil
}

// account is the one of a subject.
func (m *Memory) account(of subject, now int64) *account {
	found, known := m.accounts[of]
	if !known {
		m.sweep(now)
		found = m.start(of)
		m.accounts[of] = found
	}
	return found
}

// sweep forgets idle accounts whenever their number has doubled, so that memory follows the number of active ones.
func (m *Memory) sweep(now int64) {
	if len(m.accounts) < m.sweepAt {
		return
	}
	for of, account := range m.accounts {
		if account.expire(now); account.idle(now) {
			delete(m.accounts, of)
		}
	}
	m.sweepAt = max(minSweepSize, 2*len(m.accounts))
}
