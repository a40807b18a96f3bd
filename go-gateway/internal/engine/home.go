package engine

import (
	"cmp"
	"hash/fnv"
	"slices"
)

// A call's home is overloaded, and the call goes to the next one, when it has more to do than so many times what the
// least loaded replica has, and so many tokens besides.
const (
	homeLoadFactor = 2
	homeLoadTokens = 4096
)

// homeFor returns which of some replicas a call belongs on: the first by rendezvous hashing (Thaler and Ravishankar 1998)
// that is not overloaded. When a replica comes or goes, only the calls that belong on it move; and gateways that know
// the same addresses agree without a word.
func homeFor(home uint64, list []candidate) int {
	places, least := make([]int, len(list)), int64(mostTokens)*2
	loads := make([]int64, len(list))
	for i := range list {
		places[i], loads[i] = i, list[i].work.load()
		least = min(least, loads[i])
	}
	slices.SortFunc(places, func(a, b int) int {
		return cmp.Compare(rendezvous(home, list[b].address), rendezvous(home, list[a].address))
	})
	for _, i := range places {
		if loads[i] <= least*homeLoadFactor+homeLoadTokens {
			return i
		}
	}
	return places[0] // not reached: the least loaded is not overloaded
}

// rendezvous is how much a replica is for a call.
func rendezvous(home uint64, address string) uint64 {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(address))
	// The finalizer of SplitMix64 (Steele, Lea and Flood 2014): FNV alone is too even for addresses that differ in a digit.
	z := hash.Sum64() ^ home
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
