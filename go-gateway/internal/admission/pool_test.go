package admission

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// fill takes ones for a key until there are no more, and returns how many it got.
func fill(p *Pool, key string) (taken int64) {
	for p.TryAcquire(key, 1) {
		taken++
	}
	return taken
}

func TestAKeyAloneGetsMostOfIt(t *testing.T) {
	p := NewPool(1024, 1)
	if taken := fill(p, "a"); taken < 1024*2/3 || taken > 1024*3/4 {
		t.Errorf("alone, a key holds %d of 1024", taken)
	}
}

func TestAFloodLeavesRoomForTheNext(t *testing.T) {
	p := NewPool(1024, 1)
	before := fill(p, "first")
	for _, key := range []string{"second", "third"} {
		taken := fill(p, key)
		if taken < before/6 {
			t.Errorf("%s got %d after a key with %d", key, taken, before)
		}
		before = taken
	}
}

// Keys that come one after the other and keep all they can get exhaust what is shared; newcomers live on the reserve.
func TestTheReserveIsForNewcomers(t *testing.T) {
	p := NewPool(1024, 1)
	for i := range 10 {
		fill(p, fmt.Sprint("greedy", i))
	}
	newcomers := 0
	for p.TryAcquire(fmt.Sprint("new", newcomers), 1) {
		newcomers++
	}
	if newcomers < 1024/reservePart-10 {
		t.Errorf("%d newcomers were let in beside ten greedy keys", newcomers)
	}
	if p.Used() != 1024 || p.TryAcquire("late", 1) {
		t.Errorf("%d of 1024 are used", p.Used())
	}
	// First come, first served: whoever waits for the next place that is free gets it, but no one gets a second.
	p.Release("new0", 1)
	if p.TryAcquire("new1", 1) {
		t.Error("one that holds a place got a second while the reserve is in use")
	}
	if !p.TryAcquire("late", 1) {
		t.Error("a newcomer did not get the place that became free")
	}
}

func TestSmallPools(t *testing.T) {
	for total, alone := range map[int64]int64{1: 1, 2: 1, 3: 2, 8: 6} {
		p := NewPool(total, 1)
		if taken := fill(p, "a"); taken != alone {
			t.Errorf("alone, a key holds %d of %d", taken, total)
		}
		if total > 1 && !p.TryAcquire("b", 1) {
			t.Errorf("no room for a second key in %d", total)
		}
	}
}

// TestLiveness is the promise: in any state that requests of any sizes lead to, a key that holds nothing is admitted
// with a small request, unless the guarantees of those that hold something fill the reserve.
func TestLiveness(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 0))
		total := 1 + random.Int64N(4000)
		guarantee := 1 + random.Int64N(max(1, total/16))
		keys := 1 + random.IntN(40)
		p, reserve := NewPool(total, guarantee), total-NewPool(total, guarantee).shared
		type taken struct {
			key    string
			amount int64
		}
		var open []taken
		for range 2000 {
			if len(open) > 0 && random.IntN(3) == 0 {
				i := random.IntN(len(open))
				p.Release(open[i].key, open[i].amount)
				open[i] = open[len(open)-1]
				open = open[:len(open)-1]
			} else {
				one := taken{fmt.Sprint(random.IntN(keys)), 1 + random.Int64N(max(1, total/(1+random.Int64N(200))))}
				if p.TryAcquire(one.key, one.amount) {
					open = append(open, one)
				}
			}
			sum, holders := int64(0), map[string]bool{}
			for _, one := range open {
				sum, holders[one.key] = sum+one.amount, true
			}
			if p.Used() != sum || sum > total {
				t.Fatalf("seed %d: %d used, %d held, of %d", seed, p.Used(), sum, total)
			}
			room := int64(len(holders)+1)*guarantee <= reserve
			small := 1 + random.Int64N(guarantee)
			if got := p.TryAcquire("newcomer", small); got {
				p.Release("newcomer", small)
			} else if room {
				t.Fatalf("seed %d: %d holders keep a newcomer out with %d of %d (guarantee %d, reserve %d)",
					seed, len(holders), small, total, guarantee, reserve)
			}
		}
		for _, one := range open {
			p.Release(one.key, one.amount)
		}
		if p.Used() != 0 || len(p.held) != 0 {
			t.Fatalf("seed %d: %d is still used by %v", seed, p.Used(), p.held)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	p := NewPool(100, 1)
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			key := fmt.Sprint(worker % 3)
			for range 1000 {
				if p.TryAcquire(key, 2) {
					p.Release(key, 2)
				}
			}
		})
	}
	group.Wait()
	if p.Used() != 0 || len(p.held) != 0 {
		t.Errorf("%d is still used by %v", p.Used(), p.held)
	}
}

func TestWhatIsAheadOfAKey(t *testing.T) {
	p := NewPool(1000, 1)
	if got := p.Ahead("a"); got != 0 {
		t.Errorf("of nothing, %v is ahead", got)
	}
	for key, held := range map[string]int64{"flood": 98, "light": 2} {
		if !p.TryAcquire(key, held) {
			t.Fatal(key)
		}
	}
	for key, want := range map[string]float64{"flood": 1, "light": 0.04, "new": 0} {
		if got := p.Ahead(key); got != want {
			t.Errorf("%s: %v is ahead, want %v", key, got, want)
		}
	}
}

func TestHowSoonThereIsRoom(t *testing.T) {
	p := NewPool(100, 1)
	take := func(key string, amount int64) {
		t.Helper()
		if !p.TryAcquire(key, amount) {
			t.Fatal(key)
		}
	}
	expect := func(amount int64, want time.Duration) {
		t.Helper()
		if got := p.FreeIn(amount); got != want {
			t.Errorf("%d of %d are free in %v, want %v", amount, p.Used(), got, want)
		}
	}
	take("a", 1)
	expect(1, 0) // nobody knows
	p.ReleaseAfter("a", 1, 8*time.Second)
	expect(1, 0) // nothing is held
	take("a", 10)
	take("b", 30)
	expect(1, 200*time.Millisecond)
	expect(20, 4*time.Second)
	expect(100, 8*time.Second) // all that is held
	p.Release("a", 10)         // which says nothing of how long
	expect(15, 4*time.Second)
	for range 10 * averaged { // quick ones
		take("c", 1)
		p.ReleaseAfter("c", 1, time.Millisecond)
	}
	expect(30, soonest)
	for range 10 * averaged { // slow ones
		take("c", 1)
		p.ReleaseAfter("c", 1, time.Minute)
	}
	if got := p.FreeIn(1); got < 1990*time.Millisecond || got > 2*time.Second {
		t.Errorf("one of 30 is free in %v", got)
	}
}

// BenchmarkASlot is one that is taken and given back, beside others of its tenant.
func BenchmarkASlot(b *testing.B) {
	p := NewPool(1024, 1)
	p.TryAcquire("tenant", 1)
	b.ReportAllocs()
	for b.Loop() {
		if !p.TryAcquire("tenant", 1) {
			b.Fatal("no slot")
		}
		p.ReleaseAfter("tenant", 1, time.Millisecond)
	}
}
