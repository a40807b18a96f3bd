// Package admission shares out what is bounded: slots for requests, bytes for their bodies.
//
// One rule serves all of them, so that no key can shut the others out. It reads no clock, but is told how long things were
// held; it never waits, and must not depend on HTTP or on what is shared.
package admission

import (
	"maps"
	"sync"
	"time"
)

const (
	// A key may hold at most so many times what is left: a dynamic threshold (Choudhury and Hahne, 1998), as the hot
	// path's queues have it. Alone, a key gets four fifths; beside n keys that take all they can get, each settles at
	// share/(share*n+1), and there is always something left to take. A smaller factor would waste more where nobody
	// else asks.
	share = 4
	// One part in so many is a reserve that only guarantees may use. The threshold alone does not keep room for a
	// newcomer: keys that arrive one after the other each take four fifths of what is left, so five of them leave 1 of
	// 1024, for as long as their requests last.
	reservePart = 8
	// averaged is how many of the latest durations a mean is of, about: what is held for long and what is not share a pool,
	// and some of each must be among them.
	averaged = 32
	// soonest is what those are told at least who are to come again, as hot paths tell it.
	soonest = 100 * time.Millisecond
)

// Pool is an amount that keys share. It is safe for concurrent use.
//
// Whatever others hold, a key gets its guarantee, until so many keys hold something that their guarantees fill the
// reserve. From there on it is first come, first served: with more active keys than amount, some must be refused, but
// none of those that hold something gets more than its guarantee before the reserve is whole again.
type Pool struct {
	total     int64
	shared    int64 // total without the reserve
	guarantee int64

	mu   sync.Mutex
	used int64
	held map[string]int64 // by key; no zeros
	// meanHeld is for how long what was given back lately had been held; 0 = not known.
	meanHeld time.Duration
}

// NewPool returns an empty Pool of a total of at least 1, of which each key is guaranteed a part, should it come to
// that.
func NewPool(total, guarantee int64) *Pool {
	reserve := min((total+reservePart-1)/reservePart, total-1)
	return &Pool{total: total, shared: total - reserve, guarantee: guarantee, held: map[string]int64{}}
}

// TryAcquire gives a key an amount of at least 1, which it must Release; false if there is no room for it.
func (p *Pool) TryAcquire(key string, amount int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	used, held := p.used+amount, p.held[key]+amount
	guaranteed := held <= p.guarantee && used <= p.total
	if !guaranteed && (used > p.shared || held > share*(p.shared-p.used)) {
		return false
	}
	p.used, p.held[key] = used, held
	return true
}

// Release gives an amount back.
func (p *Pool) Release(key string, amount int64) { p.ReleaseAfter(key, amount, 0) }

// ReleaseAfter gives an amount back that was held for so long; 0 says nothing.
func (p *Pool) ReleaseAfter(key string, amount int64, held time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used -= amount
	p.held[key] -= amount
	if p.held[key] == 0 {
		delete(p.held, key)
	}
	if amount > 0 && held > 0 {
		if p.meanHeld == 0 {
			p.meanHeld = held
		}
		p.meanHeld += (held - p.meanHeld) / averaged
	}
}

// FreeIn returns about how soon an amount will be given back of what is held now: by Little's law, in the time for which it
// is held at the mean, divided by how many such amounts are. 0 where nobody knows.
func (p *Pool) FreeIn(amount int64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used == 0 || p.meanHeld == 0 {
		return 0
	}
	part := min(1, float64(amount)/float64(p.used))
	return max(soonest, time.Duration(float64(p.meanHeld)*part))
}

// Ahead returns which part of all that is held is served before what a key asks for next, where keys take turns: of all
// keys' together as much as the key has itself, and 1 at most.
func (p *Pool) Ahead(key string) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used == 0 {
		return 0
	}
	return min(1, float64(p.held[key])*float64(len(p.held))/float64(p.used))
}

// Used returns how much all keys hold together.
func (p *Pool) Used() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used
}

// Held returns how much each key holds, of those that hold something.
func (p *Pool) Held() map[string]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.held)
}

// Total returns how much there is.
func (p *Pool) Total() int64 { return p.total }
