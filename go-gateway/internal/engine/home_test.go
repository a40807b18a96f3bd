package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"triptych.dev/gateway/internal/testkit"
)

// strangers are replicas that are nothing but their addresses.
func strangers(n int) (list []candidate) {
	for i := range n {
		list = append(list, candidate{replica: &replica{address: fmt.Sprintf("10.0.0.%d:50051", i)}})
	}
	return list
}

func TestCallsSpreadOverTheirHomes(t *testing.T) {
	const calls, replicas = 10_000, 5
	list := strangers(replicas)
	counts := make([]int, replicas)
	for home := range uint64(calls) {
		counts[homeFor(home+1, list)]++
	}
	for i, count := range counts {
		if count < calls/replicas*9/10 || count > calls/replicas*11/10 {
			t.Errorf("replica %d is home to %d of %d calls", i, count, calls)
		}
	}
}

// TestOnlyWhatBelongsOnAReplicaMovesWithIt: were it a remainder of a division, nearly all would.
func TestOnlyWhatBelongsOnAReplicaMovesWithIt(t *testing.T) {
	const gone = 2
	list := strangers(5)
	rest := slices.Delete(slices.Clone(list), gone, gone+1)
	slices.Reverse(rest) // nor does their order matter
	for home := range uint64(1000) {
		before, after := list[homeFor(home+1, list)].address, rest[homeFor(home+1, rest)].address
		if before != list[gone].address && before != after {
			t.Fatalf("%d moved from %s to %s", home+1, before, after)
		}
	}
}

func TestAnOverloadedHomeIsLeftAlone(t *testing.T) {
	list := strangers(3)
	const home = 7
	first := homeFor(home, list)
	for i := range list {
		list[i].work.begin(1000)
	}
	list[first].work.begin(1000*(homeLoadFactor-1) + homeLoadTokens)
	if got := homeFor(home, list); got != first {
		t.Error("left at the bound")
	}
	list[first].work.begin(1)
	second := homeFor(home, list)
	if second == first {
		t.Fatal("not left beyond the bound")
	}
	if got := homeFor(home, list); got != second {
		t.Error("where it goes instead is not always the same")
	}
	list[second].work.begin(1 << 20)
	if third := homeFor(home, list); third == first || third == second {
		t.Error("it goes to another one that is overloaded")
	}
}

func TestTheHomeIsAskedFirstIfItIsAmongTheBest(t *testing.T) {
	e, _ := fleet(t, time.Now, 3)
	const home = 7
	first := e.candidates(task{model: testkit.ModelName, home: home})[0]
	for range 20 {
		if got := e.candidates(task{model: testkit.ModelName, home: home}); got[0] != first || len(got) != 3 {
			t.Fatalf("got %v", got)
		}
	}
	e.pool.eject(first, errHangs)
	if got := e.candidates(task{model: testkit.ModelName, home: home}); got[0] == first || got[2] != first {
		t.Errorf("a home that is ejected: it is number %d of %d", slices.Index(got, first), len(got))
	}
}
