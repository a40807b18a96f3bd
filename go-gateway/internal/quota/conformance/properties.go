package conformance

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"triptych.dev/gateway/internal/quota"
)

const (
	runs  = 40
	steps = 150
)

// properties lets requests come, end, fail and be forgotten in any order, while plans change, and holds what is used
// against a model that only knows what was used in the end.
func properties(t *testing.T, of Open) {
	for seed := range uint64(runs) {
		s := open(t, of)
		m := &model{subjects: s, random: rand.New(rand.NewPCG(seed, 0)), limits: plans[0]}
		for range steps {
			m.step()
		}
		m.end()
		if t.Failed() {
			t.Fatalf("with the seed %d", seed)
		}
	}
}

var plans = []quota.Limits{
	{RequestsPerMinute: 60, RequestBurst: 10, TokensPerMinute: 1000, TokensPerDay: 4000, ConcurrentRequests: 5, ConcurrentStreams: 2},
	{RequestsPerMinute: 7, TokensPerMinute: 333, TokensPerDay: 1500, ConcurrentRequests: 2},
	{RequestsPerMinute: 600, TokensPerMinute: 7000, TokensPerDay: 9000, ConcurrentRequests: 8, ConcurrentStreams: 8, TokensPerRequest: 400},
}

// model is all that happened to one tenant.
type model struct {
	*subjects
	random  *rand.Rand
	limits  quota.Limits
	running []*taken
	all     []*taken
}

// taken is one reservation and what became of it.
type taken struct {
	quota.Reservation
	at      int64 // µs
	expires int64
	used    int64 // of a settled one; what was granted until then
	settled bool
}

func (m *model) now() int64 { return m.clock.Now().UnixMicro() }

func (m *model) step() {
	switch m.random.IntN(10) {
	case 0, 1, 2, 3:
		request := m.tokens(m.limits, 1+m.random.Int64N(50), 50+m.random.Int64N(400))
		request.Stream = m.random.IntN(3) == 0
		decision := m.ask(request)
		m.check(request, decision)
		if decision.Refusal == nil {
			one := &taken{
				Reservation: decision.Reservation, at: m.now(), expires: m.now() + Lease.Microseconds(), used: decision.Reservation.Granted,
			}
			m.running, m.all = append(m.running, one), append(m.all, one)
		}
	case 4, 5, 6:
		if one := m.pick(); one != nil {
			one.used, one.settled = m.random.Int64N(one.Granted+1), true
			m.Settle(one.Reservation, one.used)
		}
	case 7:
		if len(m.running) > 0 && m.random.IntN(2) == 0 {
			m.renew()
		}
	case 8:
		m.clock.Advance(time.Duration(m.random.Int64N(int64(20 * time.Second))).Truncate(time.Microsecond))
	case 9:
		if m.random.IntN(5) == 0 {
			m.limits = plans[m.random.IntN(len(plans))]
		}
		if m.random.IntN(40) == 0 {
			m.clock.Advance(7 * time.Hour)
		}
	}
	m.checkState()
}

// renew renews what runs.
func (m *model) renew() {
	var reservations []quota.Reservation
	for _, one := range m.running {
		one.expires = m.now() + Lease.Microseconds()
		reservations = append(reservations, one.Reservation)
	}
	m.Renew(reservations)
}

// pick takes one out of those that run.
func (m *model) pick() *taken {
	if len(m.running) == 0 {
		return nil
	}
	i := m.random.IntN(len(m.running))
	one := m.running[i]
	m.running = append(m.running[:i], m.running[i+1:]...)
	return one
}

// expected is what runs, and what is used of today's tokens.
func (m *model) expected() (running, streams, dayTokens int64) {
	const day = int64(24 * time.Hour / time.Microsecond)
	for _, one := range m.all {
		alive := !one.settled && one.expires > m.now()
		if alive {
			running++
			if one.Stream {
				streams++
			}
		}
		if one.Day == m.now()/day && (alive || one.settled) { // what was forgotten came back
			dayTokens += one.used
		}
	}
	return running, streams, dayTokens
}

// checkState holds that exactly what runs is held, and exactly what was used is charged to the day.
func (m *model) checkState() {
	m.Helper()
	state := m.state(m.request(m.limits))
	if running, streams, dayTokens := m.expected(); state.Running != running || state.Streams != streams || state.DayTokens != dayTokens {
		m.Fatalf("%d requests and %d streams run, and %d tokens are used today: got %+v", running, streams, dayTokens, state)
	}
}

// check holds that a decision keeps to the limits, and that a refusal is for a reason and its wait true.
func (m *model) check(request quota.Request, decision quota.Decision) {
	m.Helper()
	running, streams, dayTokens := m.expected()
	limits, refusal := m.limits, decision.Refusal
	if refusal == nil {
		if running >= limits.ConcurrentRequests || (request.Stream && limits.ConcurrentStreams > 0 && streams >= limits.ConcurrentStreams) ||
			dayTokens+decision.Reservation.Granted > limits.TokensPerDay || decision.Reservation.Granted < request.MinTokens {
			m.Fatalf("granted %d beside %d requests, %d streams and %d tokens, by %+v", decision.Reservation.Granted, running, streams, dayTokens, limits)
		}
		return
	}
	if refusal.RetryAfter > 0 && refusal.RetryAfter <= time.Minute && len(m.running) == 0 {
		m.clock.Advance(refusal.RetryAfter)
		if again := m.ask(request); again.Refusal != nil {
			m.Fatalf("refused for %v, and then again: %+v", refusal.RetryAfter, *again.Refusal)
		} else {
			one := &taken{Reservation: again.Reservation, at: m.now(), expires: m.now() + Lease.Microseconds(), used: again.Reservation.Granted}
			m.running, m.all = append(m.running, one), append(m.all, one)
		}
	}
}

// end settles what runs, and holds what was really used against the buckets: replayed with what each request used in the
// end, as if that had been known when it came, each must have found room. Then it waits: nothing may be left.
func (m *model) end() {
	m.Helper()
	for one := m.pick(); one != nil; one = m.pick() {
		if m.random.IntN(3) > 0 { // the others are forgotten
			one.used, one.settled = m.random.Int64N(one.Granted+1), true
			m.Settle(one.Reservation, one.used)
		}
	}
	minute := time.Minute.Microseconds()
	var tokens, requests int64 // theoretical arrival times
	for _, one := range m.all {
		limits := one.Limits[quota.Tenant]
		tokens = max(tokens, one.at) + (one.used*minute+limits.TokensPerMinute-1)/limits.TokensPerMinute
		interval := (minute + limits.RequestsPerMinute - 1) / limits.RequestsPerMinute
		requests = max(requests, one.at) + interval
		burst := limits.RequestBurst
		if burst == 0 {
			burst = limits.RequestsPerMinute
		}
		if tokens-one.at > minute || requests-one.at > max(burst*interval, 0) {
			m.Fatalf("oversubscribed at %d: buckets full in %d and %d µs", one.at, tokens-one.at, requests-one.at)
		}
	}
	m.clock.Advance(24*time.Hour + time.Minute)
	if state := m.state(m.request(m.limits)); state != (quota.State{}) {
		m.Fatalf("a day later: %+v", state)
	}
}

// race lets many ask at one moment.
func race(t *testing.T, of Open) {
	s := open(t, of)
	limits := quota.Limits{RequestsPerMinute: 300, ConcurrentRequests: 100, TokensPerDay: 1000}
	var granted atomic.Int64
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 50 {
				request := quota.Request{
					ID: fmt.Sprintf("%d-%d", i, j), Tenant: "acme", Key: "key", Counted: true, Runs: true, MinTokens: 1, MaxTokens: 11,
					Limits: [quota.Scopes]quota.Limits{quota.Tenant: limits},
				}
				granted.Add(s.ask(request).Reservation.Granted)
			}
		})
	}
	group.Wait()
	if state := s.state(s.request(limits)); granted.Load() != 1000 || state.DayTokens != 1000 || state.Running != 91 {
		t.Errorf("%d tokens were granted of 1000: %+v", granted.Load(), state)
	}
}
