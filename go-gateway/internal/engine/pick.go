package engine

import (
	"cmp"
	"slices"
	"time"
)

// How much is to be said for sending a replica a call for a model, best first.
const (
	works         = iota // it did so lately
	serves               // it says that it serves the model
	mayServe             // it is connected, and has not said which models it has
	doesNotServe         // it has the model, which is loading or failed, or it is about to end: it can say so itself
	isLost               // it is not connected, and had the model
	lacks                // it has not got the model
	isUnreachable        // it is not connected, and nothing is known of it
)

// tier is how suitable a replica is: by its rank, but that of those that may serve, one that has no room for the call comes
// after the others, and one that is ejected last.
type tier struct {
	rank          int
	ejected, full bool
}

func (t tier) usable() bool { return t.rank <= mayServe }

func compareTiers(a, b tier) int {
	if a.usable() && b.usable() {
		for _, last := range [][2]bool{{a.ejected, b.ejected}, {a.full, b.full}} {
			switch {
			case last[0] && !last[1]:
				return 1
			case last[1] && !last[0]:
				return -1
			}
		}
	}
	return cmp.Compare(a.rank, b.rank)
}

type candidate struct {
	*replica
	tier
}

// candidates returns the replicas to try for a call, in their order: the more suitable ones first, and of those that are
// equally so the less loaded of two taken at random. The very least loaded would get the calls of all gateways at once,
// until it has told them that it is so no longer. One that does not serve the model is asked only if none does, for
// the reason. There is none only where there are no replicas.
//
// A call that has a home goes there first, if that is among the most suitable.
func (e *Engine) candidates(t task) []*replica {
	replicas := e.pool.replicas()
	if len(replicas) == 0 {
		return nil
	}
	now := e.options.Now()
	since := now.Add(-e.options.ReadyWindow)
	list := make([]candidate, len(replicas))
	for i, r := range replicas {
		list[i] = candidate{r, tier{r.suitability(t.model, since), r.ejection.out.Load(), r.full.refuses(t, now)}}
	}
	return e.order(list, t.home)
}

// order returns the replicas of a list as candidates does. It is the whole rule, which `make simulate` has too: both are held to
// tests/cases/routing/picks.json.
func (e *Engine) order(list []candidate, home uint64) []*replica {
	slices.SortStableFunc(list, func(a, b candidate) int { return compareTiers(a.tier, b.tier) })
	best := make([]*replica, 0, maxAttempts)
	for len(list) > 0 && len(best) < maxAttempts && (len(best) == 0 || list[0].usable()) {
		end := slices.IndexFunc(list, func(c candidate) bool { return compareTiers(list[0].tier, c.tier) != 0 })
		if end < 0 {
			end = len(list)
		}
		equals := list[:end:end]
		list = list[end:]
		if home != 0 && len(best) == 0 && len(equals) > 1 && equals[0].usable() {
			i := homeFor(home, equals)
			best = append(best, equals[i].replica)
			equals = slices.Delete(equals, i, i+1)
		}
		for len(equals) > 0 && len(best) < maxAttempts {
			i := e.lessLoaded(equals)
			best = append(best, equals[i].replica)
			equals = slices.Delete(equals, i, i+1)
		}
	}
	return best
}

// lessLoaded returns which of two taken at random has less to do.
func (e *Engine) lessLoaded(list []candidate) int {
	if len(list) == 1 {
		return 0
	}
	i, j := e.options.Random(len(list)), e.options.Random(len(list)-1)
	if j >= i {
		j++
	}
	if list[j].work.load() < list[i].work.load() {
		return j
	}
	return i
}

// suitability ranks a replica for a model.
func (r *replica) suitability(model string, since time.Time) int {
	rank := r.readiness.suitability(model, since)
	if r.connected() {
		if rank <= mayServe && r.draining.Load() {
			return doesNotServe
		}
		return rank
	}
	if rank <= isLost && rank != mayServe {
		return isLost
	}
	return isUnreachable
}
