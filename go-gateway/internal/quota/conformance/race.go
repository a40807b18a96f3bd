package conformance

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"triptych.dev/gateway/internal/quota"
)

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

const (
	racers = 8
	laps   = 60
)

// racing are plans that change while requests race. Their buckets are alike: what these have let in is known, in whatever order
// it came.
var racing = [2]plan{
	both(
		quota.Limits{RequestsPerMinute: 90, TokensPerMinute: 4000, TokensPerDay: 3000, ConcurrentRequests: 12, ConcurrentStreams: 5},
		quota.Limits{RequestsPerMinute: 60, TokensPerMinute: 2500, TokensPerDay: 1800, ConcurrentRequests: 7, ConcurrentStreams: 3},
	),
	both(
		quota.Limits{RequestsPerMinute: 90, TokensPerMinute: 4000, TokensPerDay: 2500, ConcurrentRequests: 8, ConcurrentStreams: 3},
		quota.Limits{RequestsPerMinute: 60, TokensPerMinute: 2500, TokensPerDay: 1500, ConcurrentRequests: 5, ConcurrentStreams: 2},
	),
}

func both(tenant, key quota.Limits) (of plan) {
	for class := range of {
		of[class] = [quota.Scopes]quota.Limits{tenant, key}
	}
	return of
}

// track is on which racers run, and all that they do.
type track struct {
	*subjects
	moving bool // time passes, so that leases expire

	mu sync.Mutex
	history
	held    map[account]*holding
	granted int
}

// holding is what surely counts of an account: no less than that.
type holding struct{ running, streams, dayTokens int64 }

// raceOfAll lets requests come, be replaced, end, fail, be renewed and charged later, all at one moment, or, where time moves,
// be forgotten and end after their leases too. Whatever the order, no more is held than any plan allows, and in the end what was
// used counts, to the token, and nothing else.
func raceOfAll(t *testing.T, of Open, moving bool) {
	tr := &track{subjects: open(t, of), moving: moving, held: map[account]*holding{}}
	var group sync.WaitGroup
	for i := range racers {
		group.Go(func() { (&racer{track: tr, random: rand.New(rand.NewPCG(uint64(i), 1)), number: i}).run() })
	}
	group.Wait()
	if tr.granted < racers {
		t.Errorf("only %d requests were let in", tr.granted)
	}
	if moving {
		tr.clock.Advance(Lease)
	}
	m := &model{subjects: tr.subjects, history: tr.history, plan: racing[0]}
	m.eachState(&m.plan, func(of account, limits quota.Limits, state quota.State) {
		if !moving { // in which order things happened to the buckets is not known then
			m.checkState(of, limits, state)
		} else if running, streams, dayTokens := m.used(of, m.now()); state.Running != running || state.Streams != streams || state.DayTokens != dayTokens {
			t.Fatalf("%+v: %d requests and %d streams run, and %d tokens are used today: got %+v", of, running, streams, dayTokens, state)
		}
	})
}

// count adds to what surely counts of a request's accounts, and holds that no plan allows less.
func (tr *track) count(request *quota.Request, running, dayTokens int64) {
	for scope := range quota.Scopes {
		of := accountOf(request, scope)
		if tr.held[of] == nil {
			tr.held[of] = &holding{}
		}
		held, most := tr.held[of], racing[0][of.class][scope]
		held.running += running
		if request.Stream {
			held.streams += running
		}
		held.dayTokens += dayTokens
		if !tr.moving && (held.running > most.ConcurrentRequests || held.streams > most.ConcurrentStreams || held.dayTokens > most.TokensPerDay) {
			tr.Errorf("%+v: %+v are held, by %+v", of, *held, most)
		}
	}
}

// racer is one of those that do things at one moment, each with requests of its own.
type racer struct {
	*track
	random       *rand.Rand
	number, next int
	running      []*taken
	work         *work
}

func (r *racer) run() {
	for range laps {
		switch r.random.IntN(10) {
		case 0, 1, 2, 3:
			r.ask(r.some(), nil)
		case 4, 5:
			r.settle(r.pick(), false)
		case 6:
			r.settle(r.pick(), true)
		case 7:
			if one := r.pick(); one != nil {
				r.record(func() {
					r.count(&one.Request, -1, -one.Granted)
					r.history.settle(one, 0, 0)
				})
				request := r.some()
				request.Key, request.Counted = one.Key, false
				r.ask(request, &one.Reservation)
			}
		case 8:
			var reservations []quota.Reservation
			for _, one := range r.running {
				reservations = append(reservations, one.Reservation)
			}
			r.Renew(reservations)
			if r.moving {
				r.clock.Advance(time.Duration(r.random.Int64N(int64(Lease / 4))).Truncate(time.Microsecond))
			}
		case 9:
			r.beginOrEndWork()
		}
	}
	for one := r.pick(); one != nil; one = r.pick() {
		if !r.moving || r.random.IntN(3) > 0 { // else it is forgotten
			r.settle(one, false)
		}
	}
	if r.work != nil {
		r.beginOrEndWork()
	}
}

func (r *racer) record(what func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	what()
}

func (r *racer) some() quota.Request {
	class := quota.Class(r.random.IntN(int(quota.Classes)))
	r.next++
	return quota.Request{
		ID: fmt.Sprintf("%d-%d", r.number, r.next), Tenant: "acme", Key: keys[r.random.IntN(len(keys))], Class: class,
		Limits: racing[r.random.IntN(len(racing))][class], Counted: true, Runs: true, Stream: r.random.IntN(3) == 0,
		MinTokens: 1 + r.random.Int64N(20), MaxTokens: 20 + r.random.Int64N(150),
	}
}

func (r *racer) ask(request quota.Request, instead *quota.Reservation) {
	part := r.work
	if part != nil && (part.Class != request.Class || part.Key != request.Key) {
		part = nil
	}
	if part != nil {
		request.Pending = &quota.Pending{}
	}
	decision, err := r.Reserve(context.Background(), request, instead)
	if err != nil {
		r.Errorf("%v", err)
		return
	}
	r.record(func() {
		if decision.Refusal != nil {
			return
		}
		r.granted++
		now := r.clock.Now().UnixMicro()
		one := r.history.take(decision.Reservation, now, part)
		r.running = append(r.running, one)
		r.count(&request, 1, one.Granted)
	})
}

func (r *racer) pick() *taken { return pickOut(r.random, &r.running) }

func (r *racer) settle(one *taken, fails bool) {
	if one == nil {
		return
	}
	used := r.random.Int64N(one.Granted + 1)
	if fails {
		used = 0
	}
	counts := used
	switch {
	case one.work != nil && one.work == r.work: // before, as a Limiter does
		r.record(func() { one.work.Tokens += used })
		r.hold()
	case one.work != nil: // which was charged without it
		counts = 0
	}
	r.record(func() {
		r.count(&one.Request, -1, counts-one.Granted)
		r.history.settle(one, used, 0)
	})
	r.Settle(one.Reservation, used)
}

func (r *racer) hold() {
	if r.work.Tokens > 0 {
		r.Hold([]quota.Hold{r.work.Hold})
	}
}

// beginOrEndWork begins what is charged later, or ends it: it is charged, or nothing is.
func (r *racer) beginOrEndWork() {
	w := r.work
	if w == nil {
		request := r.some()
		request.Counted, request.Runs, request.Stream, request.MinTokens, request.MaxTokens = false, false, false, 0, 0
		r.work = &work{Hold: quota.Hold{Request: request, Day: quota.DayOf(r.clock.Now())}}
		return
	}
	r.work = nil
	if r.random.IntN(3) > 0 {
		for range 2 {
			var charges []quota.Charge
			for scope := range quota.Scopes {
				charges = append(charges, quota.Charge{
					ID: w.ID, Tenant: w.Tenant, Key: accountOf(&w.Request, scope).key, Class: w.Class, Day: w.Day, DayTokens: w.Tokens,
				})
			}
			if _, err := r.Charge(context.Background(), charges); err != nil {
				r.Errorf("%v", err)
			}
		}
		r.record(func() { w.charged = true; r.works = append(r.works, w) })
		return
	}
	r.record(func() { r.count(&w.Request, 0, -w.Tokens) })
	over := w.Hold
	over.Over = true
	r.Hold([]quota.Hold{over})
}
