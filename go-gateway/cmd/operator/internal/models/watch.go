package models

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"triptych.dev/gateway/cmd/operator/internal/live"
)

// watches are what is remembered of trials that are watched, each from its first reading on. It is in memory: another operator begins
// to watch again, which takes longer and is never wrong.
type watches struct {
	mutex sync.Mutex
	of    map[types.UID]*watch // by the Model
}

// process is one life of a hot path.
type process struct {
	Pod      types.UID
	Restarts int32
}

// reading is what a hot path told.
type reading struct {
	Process process
	Figures live.Figures
	// Unread is why it did not; nil: it did.
	Unread error
}

// watch is of one change at one pod.
type watch struct {
	hash   string
	since  time.Time
	trial  series
	beside map[types.UID]*series
	ended  bool
}

// series is how far counters went since the first reading. It is right across restarts, but for what was counted between the last
// reading and the end.
type series struct {
	process process
	last    live.Figures
	sum     live.Figures
}

func (s *series) add(figures live.Figures) {
	s.sum = s.sum.Plus(figures.Since(s.last))
	s.last = figures
}

// note takes readings of a trial and of those beside it, and says how it did so far; nil before the first reading of it.
func (w *watches) note(model types.UID, hash string, trial reading, beside []reading, now time.Time) *Watched {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	one := w.of[model]
	if one == nil || one.hash != hash || one.trial.process.Pod != trial.Process.Pod {
		if trial.Unread != nil {
			delete(w.of, model)
			return nil
		}
		one = &watch{hash: hash, since: now, trial: series{process: trial.Process, last: trial.Figures}, beside: map[types.UID]*series{}}
		if w.of == nil {
			w.of = map[types.UID]*watch{}
		}
		w.of[model] = one
	}
	if one.trial.process != trial.Process {
		one.ended = true
	}
	watched := &Watched{Since: one.since}
	if trial.Unread == nil {
		one.trial.add(trial.Figures)
	} else {
		watched.Unread = trial.Unread.Error()
	}
	for _, each := range beside {
		if each.Unread != nil {
			continue
		}
		if known := one.beside[each.Process.Pod]; known != nil {
			known.add(each.Figures)
		} else {
			one.beside[each.Process.Pod] = &series{process: each.Process, last: each.Figures}
		}
	}
	watched.Trial, watched.Ended = one.trial.sum, one.ended
	for _, each := range one.beside {
		watched.Beside = watched.Beside.Plus(each.sum)
	}
	return watched
}

// forget a Model of which nothing is tried.
func (w *watches) forget(model types.UID) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	delete(w.of, model)
}

// has says whether a Model is watched.
func (w *watches) has(model types.UID) bool {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.of[model] != nil
}
