package conformance

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"triptych.dev/gateway/internal/quota"
)

const (
	runs  = 60
	steps = 150
)

// properties lets requests of several keys and both classes come, be replaced, end, fail and be forgotten in any order,
// some of them charged later, while plans change, and holds what is used against a model that only knows what was used in
// the end.
func properties(t *testing.T, of Open) {
	for seed := range uint64(runs) {
		s := open(t, of)
		m := &model{subjects: s, random: rand.New(rand.NewPCG(seed, 0))}
		m.plan = somePlan(m.random)
		for range steps {
			m.step()
			m.checkStates()
		}
		m.end()
		if t.Failed() {
			t.Fatalf("with the seed %d", seed)
		}
	}
}

var keys = []string{"key", "other"}

// model lets things happen, and compares what a store says with what has happened.
type model struct {
	*subjects
	history
	random  *rand.Rand
	plan    plan
	running []*taken
	open    []*work // that are not over
}

func (m *model) now() int64 { return m.clock.Now().UnixMicro() }

func (m *model) step() {
	switch m.random.IntN(18) {
	case 0, 1, 2, 3, 4, 5:
		m.decide(m.some(), nil)
	case 6, 7, 8:
		if one := m.pick(); one != nil {
			m.settleOne(one, m.random.Int64N(one.Granted+1))
		}
	case 9: // it fails, or comes to more than was thought
		if one := m.pick(); one != nil {
			m.settleOne(one, []int64{0, one.Granted + m.random.Int64N(50)}[m.random.IntN(2)])
		}
	case 10:
		if one := m.pick(); one != nil {
			m.replace(one)
		}
	case 11:
		m.renew()
	case 12:
		request := m.some()
		request.Counted, request.Runs, request.Stream, request.MinTokens, request.MaxTokens = false, false, false, 0, 0
		w := &work{Hold: quota.Hold{Request: request}}
		m.works, m.open = append(m.works, w), append(m.open, w)
	case 13:
		if len(m.open) > 0 {
			m.hold(m.open[m.random.IntN(len(m.open))])
		}
	case 14:
		m.endWork()
	case 15:
		m.charge()
	case 16:
		most := []time.Duration{time.Second, 20 * time.Second}[m.random.IntN(2)]
		m.clock.Advance(time.Duration(m.random.Int64N(int64(most))).Truncate(time.Microsecond))
	case 17:
		if m.random.IntN(4) == 0 {
			m.plan = somePlan(m.random)
		}
		if m.random.IntN(20) == 0 {
			m.clock.Advance(7 * time.Hour)
		}
	}
}

// some is a request of some key, class and kind.
func (m *model) some() quota.Request {
	class := quota.Class(m.random.IntN(int(quota.Classes)))
	request := m.tokens(quota.Limits{}, 1+m.random.Int64N(50), 50+m.random.Int64N(400))
	request.Class, request.Key, request.Limits = class, keys[m.random.IntN(len(keys))], m.plan[class]
	request.Counted, request.Stream = m.random.IntN(10) > 0, m.random.IntN(3) == 0
	switch m.random.IntN(10) {
	case 0: // a look, that is counted and does not run
		request.Runs, request.Stream, request.MinTokens, request.MaxTokens = false, false, 0, 0
	case 1: // it runs, and costs no tokens
		request.MinTokens, request.MaxTokens = 0, 0
	}
	return request
}

// decide asks for a request, in place of another one that was given back, and holds the decision against what has happened.
func (m *model) decide(request quota.Request, instead *quota.Reservation) {
	m.Helper()
	var part *work
	if len(m.open) > 0 && request.Runs && m.random.IntN(3) == 0 {
		part, request.Pending = m.open[m.random.IntN(len(m.open))], &quota.Pending{} // a store only looks whether there is one
	}
	decision := m.askInstead(request, instead)
	m.check(request, decision)
	if decision.Refusal == nil {
		m.take(decision.Reservation, part)
	}
}

func (m *model) take(reservation quota.Reservation, part *work) {
	m.running = append(m.running, m.history.take(reservation, m.now(), part))
}

func (m *model) pick() *taken { return pickOut(m.random, &m.running) }

func (m *model) settleOne(one *taken, used int64) {
	if w := one.work; w != nil && slices.Contains(m.open, w) { // before, as a Limiter does
		w.Tokens += used
		w.Day = max(w.Day, one.Day)
		m.hold(w)
	}
	m.history.settle(one, used, m.now())
	m.Settle(one.Reservation, used)
}

// replace asks for another request of the same key, in place of one that runs.
func (m *model) replace(one *taken) {
	m.history.settle(one, 0, m.now())
	request := m.some()
	request.Key = one.Key
	m.decide(request, &one.Reservation)
}

// renew renews some of what runs, also of what has expired.
func (m *model) renew() {
	var reservations []quota.Reservation
	for _, one := range m.running {
		if m.random.IntN(3) > 0 {
			one.expires = m.now() + Lease.Microseconds()
			reservations = append(reservations, one.Reservation)
		}
	}
	m.Renew(reservations)
}

// hold tells what is held for some work, and sometimes what was told before once more: it came late.
func (m *model) hold(w *work) {
	if w.Tokens == 0 {
		return
	}
	w.expires = m.now() + Lease.Microseconds()
	told := []quota.Hold{w.Hold}
	if m.random.IntN(3) == 0 {
		late := w.Hold
		late.Tokens = m.random.Int64N(w.Tokens)
		told = append(told, late)
	}
	m.Hold(told)
}

// endWork ends some work: it is charged, once however often that is told, or nothing is.
func (m *model) endWork() {
	if len(m.open) == 0 {
		return
	}
	i := m.random.IntN(len(m.open))
	w := m.open[i]
	m.open = slices.Delete(m.open, i, i+1)
	if w.charged = m.random.IntN(3) > 0; w.charged {
		var charges []quota.Charge
		for scope := range quota.Scopes {
			if w.Holds(scope) {
				of := accountOf(&w.Request, scope)
				charges = append(charges, quota.Charge{ID: w.ID, Tenant: w.Tenant, Key: of.key, Class: w.Class, Day: w.Day, DayTokens: w.Tokens})
			}
		}
		for range 1 + m.random.IntN(2) {
			m.tell(charges)
		}
		if m.random.IntN(2) == 0 {
			m.Hold([]quota.Hold{w.Hold}) // it came late
		}
	}
	w.Over = true
	m.Hold([]quota.Hold{w.Hold})
}

// charge tells of what another gateway let in by its share.
func (m *model) charge() {
	request := m.some()
	of := accountOf(&request, quota.Scope(m.random.IntN(int(quota.Scopes))))
	one := quota.Charge{
		ID: request.ID, Tenant: request.Tenant, Key: of.key, Class: of.class, Requests: m.random.Int64N(minute / 4), Tokens: m.random.Int64N(minute / 4),
	}
	for range 1 + m.random.IntN(2) {
		m.tell([]quota.Charge{one})
	}
	m.events = append(m.events, event{at: m.now(), of: of, requests: one.Requests, tokens: one.Tokens})
}

func (m *model) tell(charges []quota.Charge) {
	m.Helper()
	if states, err := m.Charge(context.Background(), charges); err != nil || len(states) != len(charges) {
		m.Fatalf("%+v, %v", states, err)
	}
}

// checkStates holds, for each account, that exactly what runs is held, that exactly what was used is charged to the day, and that
// the buckets are as full as they may be.
func (m *model) checkStates() {
	m.Helper()
	m.eachState(&m.plan, func(of account, limits quota.Limits, state quota.State) {
		if limits != (quota.Limits{}) { // of others nothing is kept
			m.checkState(of, limits, state)
		}
	})
}

func (m *model) checkState(of account, limits quota.Limits, state quota.State) {
	m.Helper()
	now := m.now()
	running, streams, dayTokens := m.used(of, now)
	if limits.NeedsLease() && (state.Running != running || state.Streams != streams || state.DayTokens != dayTokens) {
		m.Fatalf("%+v: %d requests and %d streams run, and %d tokens are used today: got %+v", of, running, streams, dayTokens, state)
	}
	requests, least, most, kept := m.buckets(of)
	if !kept {
		m.Fatalf("%+v is oversubscribed", of)
	}
	if state.Requests != max(0, requests-now) || state.Tokens < max(0, least-now) || state.Tokens > max(0, most-now) {
		m.Fatalf("%+v: the buckets are full in %d µs, and in %d to %d: got %+v", of, requests-now, least-now, most-now, state)
	}
}

// check holds that a decision keeps to the limits of both scopes and grants what there is, and that a refusal is for a
// reason and its wait true.
func (m *model) check(request quota.Request, decision quota.Decision) {
	m.Helper()
	now, granted := m.now(), decision.Reservation.Granted
	largest, _, _ := request.Largest()
	wanted := min(request.MaxTokens, largest)
	available := wanted // at least
	for scope, limits := range request.Limits {
		of := accountOf(&request, quota.Scope(scope))
		running, streams, dayTokens := m.used(of, now)
		requests, _, most, _ := m.buckets(of)
		if limits.TokensPerDay > 0 {
			available = min(available, max(0, limits.TokensPerDay-dayTokens))
		}
		if limits.TokensPerMinute > 0 {
			available = min(available, max(0, minute-max(0, most-now))*limits.TokensPerMinute/minute)
		}
		tooMany := map[quota.Kind]bool{
			quota.ConcurrentRequests: request.Runs && limits.ConcurrentRequests > 0 && running >= limits.ConcurrentRequests,
			quota.ConcurrentStreams:  request.Stream && limits.ConcurrentStreams > 0 && streams >= limits.ConcurrentStreams,
			quota.RequestsPerMinute: request.Counted && limits.RequestsPerMinute > 0 &&
				max(0, requests-now)+interval(limits) > limits.Burst()*interval(limits),
		}
		if refusal := decision.Refusal; refusal != nil {
			if refusal.Scope == quota.Scope(scope) && !refusal.TooLarge {
				tooMany[quota.TokensPerDay] = limits.TokensPerDay > 0 && limits.TokensPerDay-dayTokens < wanted
				tooMany[quota.TokensPerMinute] = limits.TokensPerMinute > 0 && max(0, most-now)+tokensCost(wanted, limits) > minute
				if !tooMany[refusal.Kind] {
					m.Fatalf("refused for %+v by %+v, beside %d requests, %d streams and %d tokens", *refusal, limits, running, streams, dayTokens)
				}
			}
			continue
		}
		for kind, is := range tooMany {
			if is {
				m.Fatalf("granted beside %d requests and %d streams, in spite of the %v of %+v", running, streams, kind, limits)
			}
		}
		if limits.TokensPerDay > 0 && granted > 0 && dayTokens+granted > limits.TokensPerDay {
			m.Fatalf("granted %d beside %d tokens, by %+v", granted, dayTokens, limits)
		}
	}
	switch refusal := decision.Refusal; {
	case refusal == nil && (granted < available || granted < request.MinTokens || granted > wanted):
		m.Fatalf("granted %d of %d to %d, and there are %d: %+v", granted, request.MinTokens, wanted, available, request.Limits)
	case refusal != nil && refusal.TooLarge != (request.MinTokens > largest):
		m.Fatalf("refused for %+v, where the largest request has %d", *refusal, largest)
	case refusal != nil && refusal.RetryAfter > 0 && refusal.RetryAfter <= time.Minute && len(m.running) == 0:
		m.clock.Advance(refusal.RetryAfter)
		again := m.ask(request)
		if again.Refusal != nil {
			m.Fatalf("refused for %v, and then again: %+v", refusal.RetryAfter, *again.Refusal)
		}
		m.take(again.Reservation, nil)
	}
}

// end settles what runs, but for what is forgotten, and waits: nothing may be left.
func (m *model) end() {
	m.Helper()
	for one := m.pick(); one != nil; one = m.pick() {
		if m.random.IntN(3) > 0 {
			m.settleOne(one, m.random.Int64N(one.Granted+1))
		}
	}
	m.checkStates()
	m.clock.Advance(24*time.Hour + time.Minute)
	m.eachState(&m.plan, func(_ account, limits quota.Limits, state quota.State) {
		if !limits.NeedsLease() { // nobody has looked at its leases
			state = quota.State{Requests: state.Requests, Tokens: state.Tokens}
		}
		if state != (quota.State{}) {
			m.Fatalf("a day later: %+v of %+v", state, limits)
		}
	})
}
