package usage

import "time"

// requestKeyOf is what tells requests apart: the id of a trace and of the span in it that is the request. Both are random, and
// the second one is the gateway's own. The request's id is not in it: a client may choose that, and one that chose the same for
// each of its requests would be seen to use as much as a single one.
type requestKeyOf struct {
	trace [16]byte
	span  [8]byte
}

// seen remembers requests for a time, and so many of them at most. They are in two generations: what comes is noted in the
// young one, and when that is full or old enough it becomes the old one, and what was there is forgotten. So nothing is moved
// or searched for, and a request is remembered for at least one lifetime, and at least half of the room.
type seen struct {
	young, old map[requestKeyOf]struct{}
	born       time.Time // the young one
	lifetime   time.Duration
	room       int // of each of the two
}

func newSeen(lifetime time.Duration, most int) *seen {
	return &seen{young: map[requestKeyOf]struct{}{}, lifetime: lifetime, room: max(most/2, 1)}
}

// add notes a request, and reports whether it is new.
func (s *seen) add(key requestKeyOf, now time.Time) bool {
	s.age(now)
	if _, is := s.young[key]; is {
		return false
	}
	if _, is := s.old[key]; is {
		return false
	}
	if len(s.young) == s.room {
		s.turn(now)
	}
	s.young[key] = struct{}{}
	return true
}

// age forgets what is older than its time.
func (s *seen) age(now time.Time) {
	switch age := now.Sub(s.born); {
	case age >= 2*s.lifetime: // nobody came for so long, or this is the first
		s.turn(now)
		s.old = nil
	case age >= s.lifetime:
		s.turn(now)
	}
}

func (s *seen) turn(now time.Time) {
	s.old, s.young, s.born = s.young, map[requestKeyOf]struct{}{}, now
}

func (s *seen) len() int { return len(s.young) + len(s.old) }
