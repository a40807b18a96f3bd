package quota

import (
	"context"
	"sync"
)

// Charge is what one subject used, as it is told to a store that counts it once by its id, however often it comes: of
// durable work, or what a gateway let in by its share.
type Charge struct {
	ID string
	// Tenant and Key name the account, the tenant's own where there is no key.
	Tenant, Key string
	Class       Class
	// Requests and Tokens are in how many µs the buckets have given back what was taken of them.
	Requests, Tokens int64
	// DayTokens were used of a day, since 1970. A day to come is today.
	Day, DayTokens int64
}

func (c *Charge) subject() subject {
	if c.Key == "" {
		return subject{tenant: c.Tenant, class: c.Class}
	}
	return subject{Key, c.Tenant, c.Key, c.Class}
}

// Hold is what requests have used of a day that are charged later, together, by the id of a charge. It does not run.
type Hold struct {
	Request // ID is the charge's
	// Tokens are of a Day, since 1970: as many at least as were held before, if that was the same day.
	Day, Tokens int64
	// Over says that nothing is to be charged for it.
	Over bool
}

// Holds reports whether tokens of the day are limited in a scope.
func (h *Hold) Holds(scope Scope) bool { return h.Limits[scope].TokensPerDay > 0 }

// Pending is what requests of durable work use of the day until the charge for it has been told. It is held against the
// limits meanwhile, so that a tenant keeps to them; if its gateway dies, what is held comes back with its lease.
type Pending struct {
	limiter *Limiter
	mu      sync.Mutex
	hold    Hold
	settled []Charge // what is held for them ends with this; guarded by the limiter's lock
}

// Hold begins to hold for the charge of an id what requests use that name it as their Pending, which have the limits of
// this one. It is to be released in the end.
func (l *Limiter) Hold(request Request) *Pending {
	p := &Pending{limiter: l, hold: Hold{Request: request}}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending[request.ID] = p
	return p
}

// add holds what another request used.
func (p *Pending) add(day, used int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold.Tokens += used
	p.hold.Day = max(p.hold.Day, day)
	p.tell()
}

// tell has the store hold it.
func (p *Pending) tell() {
	if !p.hold.Over && p.hold.Tokens > 0 && (p.hold.Holds(Tenant) || p.hold.Holds(Key)) {
		p.limiter.store.Hold([]Hold{p.hold})
	}
}

// Release gives back what is held, unless it was charged: then nothing is held any more.
func (p *Pending) Release() {
	settled := p.limiter.forget(p)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hold.Over {
		return
	}
	over := p.hold
	over.Over = true
	if p.hold.Tokens > 0 {
		p.limiter.store.Hold([]Hold{over})
	}
	p.hold.Over = true
	if len(settled) > 0 {
		p.limiter.store.Forget(settled)
	}
}

// forget ends the renewals of one; not those of another one for the same charge. It returns what was settled meanwhile.
func (l *Limiter) forget(p *Pending) []Charge {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending[p.hold.ID] == p {
		delete(l.pending, p.hold.ID)
	}
	return p.settled
}

// Settled says that charges are told no more: a store need not know them once nothing is held for them.
func (l *Limiter) Settled(charges []Charge) {
	var over []Charge
	l.mu.Lock()
	for _, charge := range charges {
		if p := l.pending[charge.ID]; p != nil {
			p.settled = append(p.settled, charge)
		} else {
			over = append(over, charge)
		}
	}
	l.mu.Unlock()
	l.store.Forget(over)
}

// Charge tells the store of charges, which counts each once. After an error they are to be told again.
func (l *Limiter) Charge(ctx context.Context, charges []Charge) error {
	_, err := l.store.Charge(ctx, charges)
	return err
}
