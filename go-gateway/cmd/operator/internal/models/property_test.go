package models

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"triptych.dev/gateway/cmd/operator/api/v1alpha1"
)

// world is a cluster with one model, as far as decisions see it.
type world struct {
	t              *testing.T
	model          *v1alpha1.Model
	serving, trial *place
	// When the trial's pod began to be watched by this operator; zero: it is not.
	watched time.Time
	now     time.Time
	// Images that all replicas were ever to serve, but for the first.
	promoted []string
}

// place is a Deployment. Its pods become of its template, and ready, when the cluster gets to it.
type place struct {
	hash, image string
	arrived     bool
}

// How images are; those that are not here are good.
var faults = map[string]string{"never ready": reasonDeadline, "fails": reasonErrors, "is slow": reasonSlower, "dies": reasonDied}

func (w *world) observe() Observed {
	var o Observed
	for _, each := range []struct {
		from *place
		into **Deployed
	}{{w.serving, &o.Serving}, {w.trial, &o.Trial}} {
		if each.from != nil {
			*each.into = &Deployed{Hash: each.from.hash, Replicas: w.model.Spec.Replicas, RolledOut: each.from.arrived}
			if each.from.arrived {
				(*each.into).Ready = w.model.Spec.Replicas
			}
		}
	}
	wanted := hashOf(w.model.Spec.Bundle, w.model.Spec.HotPath)
	if w.serving != nil && w.serving.hash == wanted && w.model.Status.Serving == nil {
		o.First = &Pod{Ready: w.serving.arrived, Revision: revisionA}
	}
	if w.trial == nil || w.trial.hash != wanted {
		w.watched = time.Time{}
		return o
	}
	o.Tried = &Pod{Ready: w.trial.arrived, Revision: revisionB}
	if !w.trial.arrived {
		o.Tried.Revision = ""
		return o
	}
	if w.watched.IsZero() {
		w.watched = w.now
	}
	requests := w.now.Sub(w.watched).Seconds() * 10
	o.Watched = &Watched{Since: w.watched, Trial: figures(requests, 0, .01), Beside: figures(requests, 0, .01)}
	switch faults[w.trial.image] {
	case reasonErrors:
		o.Watched.Trial = figures(requests, requests/2, .01)
	case reasonSlower:
		o.Watched.Trial = figures(requests, 0, .05)
	case reasonDied:
		o.Watched.Ended = true
	}
	return o
}

// reconcile is what Reconciler does. One that dies has written status, and no more.
func (w *world) reconcile(dies bool) Decision {
	d := decide(w.model, w.observe(), w.now)
	before := w.model.Status.Serving
	w.model.Status = d.Status
	if after := d.Status.Serving; before != nil && after != nil && before.Hash != after.Hash {
		w.promoted = append(w.promoted, after.Bundle.Image)
	}
	if dies {
		w.watched = time.Time{}
		return d
	}
	put := func(at *place, wanted *Wanted) *place {
		if wanted == nil {
			return nil
		}
		if at == nil || at.hash != wanted.Hash {
			return &place{hash: wanted.Hash, image: wanted.Bundle.Image}
		}
		return at
	}
	w.serving, w.trial = put(w.serving, d.Serving), put(w.trial, d.Trial)
	return d
}

// run has the cluster get to its work.
func (w *world) run() {
	for _, each := range []*place{w.serving, w.trial} {
		if each != nil && faults[each.image] != reasonDeadline {
			each.arrived = true
		}
	}
}

// settle goes on until nothing is waited for, and returns for how long that took.
func (w *world) settle() time.Duration {
	began := w.now
	for range 1000 {
		w.run()
		if again := w.reconcile(false).Again; again > 0 {
			w.now = w.now.Add(again)
			continue
		}
		if status := w.model.Status; reflect.DeepEqual(w.reconcile(false).Status, status) {
			return w.now.Sub(began)
		}
	}
	w.t.Fatalf("it does not settle: %+v", w.model.Status)
	return 0
}

func TestWhateverHappensEndsInWhatIsWantedOrIsRefused(t *testing.T) {
	images := []string{"good", "better", "best", "never ready", "fails", "is slow", "dies"}
	for seed := range uint64(2000) {
		chance := rand.New(rand.NewPCG(seed, 1))
		w := &world{t: t, model: aModel("first"), now: noon}
		w.settle()
		for range chance.IntN(60) {
			switch chance.IntN(6) {
			case 0:
				w.model.Spec.Bundle.Image = images[chance.IntN(len(images))]
				w.model.Generation++
			case 1:
				w.run()
			case 2:
				w.now = w.now.Add(time.Duration(chance.IntN(200)) * time.Second)
				w.run() // it is not so slow that deadlines are for it
			case 3:
				w.reconcile(true)
			case 4:
				w.watched = time.Time{} // another operator
			default:
				w.decideTwice()
				w.reconcile(false)
			}
		}
		took := w.settle()
		if most := 1001 * time.Second; took > most {
			t.Errorf("seed %d: it took %v", seed, took)
		}
		image := w.model.Spec.Bundle.Image
		refused, served := w.model.Status.Refused, w.model.Status.Serving
		if fault, is := faults[image]; is && (refused == nil || refused.Reason != fault || served.Bundle.Image == image) {
			t.Fatalf("seed %d: %q is served as %+v, refused as %+v", seed, image, served, refused)
		} else if !is && (refused != nil || served.Bundle.Image != image || w.serving.image != image || !w.serving.arrived) {
			t.Fatalf("seed %d: %q is wanted, and %+v serves; %+v", seed, image, served, refused)
		}
		if w.trial != nil || w.model.Status.Trial != nil {
			t.Fatalf("seed %d: a trial is left: %+v", seed, w.model.Status)
		}
		for _, each := range w.promoted {
			if _, is := faults[each]; is {
				t.Fatalf("seed %d: all were to serve what %s", seed, each)
			}
		}
	}
}

// decideTwice sees that a decision whose status is written is the same again, and tells nothing again.
func (w *world) decideTwice() {
	observed, model := w.observe(), w.model.DeepCopy()
	first := decide(model, observed, w.now)
	model.Status = first.Status
	second := decide(model, observed, w.now)
	if len(second.Events) > 0 {
		w.t.Fatalf("it is told again: %v", second.Events)
	}
	first.Events, second.Again = nil, first.Again
	if !reflect.DeepEqual(first, second) {
		w.t.Fatalf("decided again, it is another thing:\n%+v\n%+v", first, second)
	}
}
