package quota

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// stalling is one gateway's way to a Shared that stalls.
type stalling struct {
	*Memory
	away bool
	lost bool // it does what it is told, and the answer gets lost
}

var errStalled = errors.New("stalled")

func (s *stalling) ask() error {
	if s.away {
		return errStalled
	}
	return nil
}

func (s *stalling) Ping(context.Context) error { return s.ask() }

func (s *stalling) Watch(ctx context.Context) { <-ctx.Done() }

func (s *stalling) Reserve(ctx context.Context, request Request, instead *Reservation) (Decision, error) {
	if err := s.ask(); err != nil {
		return Decision{}, err
	}
	return s.Memory.Reserve(ctx, request, instead)
}

func (s *stalling) Look(ctx context.Context, request Request) (Decision, error) {
	if err := s.ask(); err != nil {
		return Decision{}, err
	}
	return s.Memory.Look(ctx, request)
}

func (s *stalling) Charge(ctx context.Context, charges []Charge) ([]State, error) {
	if err := s.ask(); err != nil {
		return nil, err
	}
	states, err := s.Memory.Charge(ctx, charges)
	if s.lost {
		return nil, errStalled
	}
	return states, err
}

// fleet is some gateways that share a store, which stalls, for all at once or for each by itself.
type fleet struct {
	testing.TB
	random   *rand.Rand
	now      time.Time
	gateways []*Failover
	ways     []*stalling
	cutOff   []time.Duration // how long each was
}

const gateways = 3

func newFleet(t testing.TB, seed uint64) *fleet {
	f := &fleet{TB: t, random: rand.New(rand.NewPCG(seed, 0)), now: time.Unix(1_800_000_000, 0), cutOff: make([]time.Duration, gateways)}
	clock := func() time.Time { return f.now }
	store := NewMemory(clock, time.Minute)
	for range gateways {
		way := &stalling{Memory: store}
		gateway := NewFailover(way, clock, gateways, func(bool, error) {})
		gateway.find(context.Background())
		f.ways, f.gateways = append(f.ways, way), append(f.gateways, gateway)
	}
	return f
}

// step lets time go on, and stalls begin and end.
func (f *fleet) step(d time.Duration, together bool) {
	f.now = f.now.Add(d)
	for i, way := range f.ways {
		if way.lost = f.random.IntN(4) == 0; way.away {
			f.cutOff[i] += d
		}
		if i > 0 && together {
			way.away = f.ways[0].away
		} else if f.random.IntN(15) == 0 {
			way.away = !way.away
		}
	}
	for _, gateway := range f.gateways {
		if gateway.Away() {
			gateway.find(context.Background())
		} else {
			gateway.pay(context.Background())
		}
	}
}

func (f *fleet) reserve(gateway int, request Request) Decision {
	f.Helper()
	decision, err := f.gateways[gateway].Reserve(context.Background(), request, nil)
	if err != nil {
		f.Fatal(err)
	}
	return decision
}

// However often the store stalls, the rates hold: what a share lets in begins where the store was, and counts there.
func TestStallsOfTheSharedStoreAddNothingToARate(t *testing.T) {
	const perMinute, burst, steps, each = 600, 120, 4000, 10 * time.Millisecond
	for seed := range uint64(8) {
		for _, together := range []bool{true, false} {
			f := newFleet(t, seed)
			asked := Request{Tenant: "acme", Key: "key", Counted: true, MaxTokens: 50, Limits: [Scopes]Limits{
				{RequestsPerMinute: perMinute, RequestBurst: burst}, {TokensPerMinute: 10 * perMinute},
			}}
			requests, tokens := 0, int64(0)
			var settle []func() // later
			for range steps {
				f.step(each, together)
				for len(settle) > 20 {
					settle[0]()
					settle = settle[1:]
				}
				for gateway := range f.gateways {
					asked.Counted = f.random.IntN(2) == 0
					if asked.MinTokens = 0; !asked.Counted {
						asked.MinTokens = 10
					}
					decision := f.reserve(gateway, asked)
					if decision.Refusal != nil {
						continue
					}
					if asked.Counted {
						requests++
					}
					used := f.random.Int64N(decision.Reservation.Granted + 1)
					tokens += used
					settle = append(settle, func() { f.gateways[gateway].Settle(decision.Reservation, used) })
				}
			}
			allowed := burst + perMinute*steps*each.Minutes()
			ofTokens := 10 * perMinute * (1 + steps*each.Minutes())
			if !together { // others do not know what one lets in that alone cannot reach the store
				for _, cutOff := range f.cutOff {
					allowed += perMinute / gateways * cutOff.Minutes()
					ofTokens += 10 * perMinute / gateways * cutOff.Minutes()
				}
			}
			if requests > int(allowed)+gateways || requests < int(0.9*burst+0.9*perMinute*steps*each.Minutes()) {
				t.Errorf("seed %d: %d requests of %.0f were let in", seed, requests, allowed)
			}
			if tokens > int64(ofTokens)+100*gateways || tokens == 0 {
				t.Errorf("seed %d: %d tokens of %.0f were used", seed, tokens, ofTokens)
			}
		}
	}
}

// The same for what does not heal by itself: a day's tokens, and what runs at once.
func TestStallsOfTheSharedStoreAddNothingToADayAndToWhatRuns(t *testing.T) {
	const ofDay, atOnce = 30_000, 9
	for seed := range uint64(8) {
		f := newFleet(t, seed)
		type running struct {
			Reservation
			gateway int
		}
		var all []running
		used := int64(0)
		for id := range 4000 {
			f.step(50*time.Millisecond, true)
			if id%40 == 0 {
				for gateway := range f.gateways {
					var renewed []Reservation
					for _, r := range all {
						if r.gateway == gateway {
							renewed = append(renewed, r.Reservation)
						}
					}
					f.gateways[gateway].Renew(renewed)
				}
			}
			gateway := f.random.IntN(gateways)
			decision := f.reserve(gateway, Request{
				ID: fmt.Sprint(id), Tenant: "acme", Key: "key", Runs: true, MinTokens: 1, MaxTokens: 100,
				Limits: [Scopes]Limits{{TokensPerDay: ofDay, ConcurrentRequests: atOnce}},
			})
			if decision.Refusal == nil {
				all = append(all, running{decision.Reservation, gateway})
			}
			// While it stalls, what others run is not known; nor, until it is renewed, what a share has let in.
			if len(all) > 2*atOnce {
				t.Fatalf("seed %d: %d run at once", seed, len(all))
			}
			if len(all) > 0 && f.random.IntN(3) > 0 {
				i := f.random.IntN(len(all))
				tokens := f.random.Int64N(all[i].Granted + 1)
				used += tokens
				f.gateways[all[i].gateway].Settle(all[i].Reservation, tokens)
				all[i] = all[len(all)-1]
				all = all[:len(all)-1]
			}
			held := int64(0)
			for _, r := range all {
				held += r.Granted
			}
			if used+held > ofDay+2*atOnce*100 {
				t.Fatalf("seed %d: %d used and %d held of %d", seed, used, held, ofDay)
			}
		}
		if used < ofDay*9/10 {
			t.Errorf("seed %d: only %d used of %d", seed, used, ofDay)
		}
		for _, r := range all {
			f.gateways[r.gateway].Settle(r.Reservation, 0)
		}
		for _, gateway := range f.gateways {
			for of, known := range gateway.seen {
				if known.running != 0 || known.streams != 0 {
					t.Errorf("seed %d: %+v runs %d", seed, of, known.running)
				}
			}
		}
	}
}
