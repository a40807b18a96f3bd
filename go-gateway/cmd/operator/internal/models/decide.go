package models

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"triptych.dev/gateway/cmd/operator/api/v1alpha1"
)

// Reasons of conditions and events.
const (
	reasonInstalling   = "Installing"
	reasonInstalled    = "Installed"
	reasonTrying       = "Trying"
	reasonWatching     = "Watching"
	reasonPassed       = "Passed"
	reasonRollingOut   = "RollingOut"
	reasonRolledOut    = "RolledOut"
	reasonScaling      = "Scaling"
	reasonSettled      = "Settled"
	reasonServed       = "Served"
	reasonTooFew       = "TooFewReady"
	reasonNameTaken    = "NameTaken"
	reasonNoTrial      = "TrialEnded"
	reasonNone         = "NothingRefused"
	reasonDeadline     = "NotReadyInTime"
	reasonRevision     = "WrongRevision"
	reasonDied         = "ProcessEnded"
	reasonErrors       = "MoreErrors"
	reasonSlower       = "Slower"
	reasonFewRequests  = "TooFewRequests"
	reasonNoFigures    = "NotWatchable"
	reasonNotTaken     = "ApplyFailed"
	eventRolledBack    = "RolledBack"
	askAgain           = 2 * time.Second  // what a hot path does not tell yet
	lookAgain          = time.Minute      // what tells us nothing when it changes
	firstRetry         = time.Second / 10 // of what failed; twice as long each time, lookAgain at most
	mostBetweenLooks   = 10 * time.Second // while a change is watched
	looksWhileWatching = 20
)

// Wanted is a Deployment that is to be.
type Wanted struct {
	v1alpha1.Serving
	Replicas int32
}

// Deployed is a Deployment that there is.
type Deployed struct {
	Hash            string
	Replicas, Ready int32
	// RolledOut: all its replicas are of its template, are ready, and no others are left.
	RolledOut bool
}

// Pod is a hot path, as far as decisions are about it.
type Pod struct {
	Ready bool
	// Revision is what it serves; empty while that is unknown.
	Revision string
	// Why it is not ready, or cannot be asked, as far as is known.
	Why string
}

// Observed is all that there is of a model.
type Observed struct {
	// Foreign is the name of something that has a name of ours, and is not the Model's.
	Foreign string
	// Nil: there is none.
	Serving, Trial *Deployed
	// First is one of those that serve first: only where it is not known yet which revision that is.
	First *Pod
	// Tried is the one that tries the change in spec. Nil: there is none yet.
	Tried *Pod
	// Watched is how it did beside the others. Nil: it is not watched yet.
	Watched *Watched
}

// Event is for kubectl describe.
type Event struct {
	Type, Reason, Message string
}

// Decision is what follows.
type Decision struct {
	// HandsOff: nothing is written but status.
	HandsOff bool
	// Nil: there is to be none.
	Serving, Trial *Wanted
	Status         v1alpha1.ModelStatus
	Events         []Event
	// Again is after how long to look again. Zero: when something changes.
	Again time.Duration
}

// decider is one decision on its way.
type decider struct {
	model    *v1alpha1.Model
	wanted   v1alpha1.Serving
	observed Observed
	now      time.Time
	Decision
}

// decide says what follows of what is wanted, of what was, and of what there is. It has no other inputs and no effects: the same comes
// out each time. Once what it says is done, it says the same again.
func decide(model *v1alpha1.Model, observed Observed, now time.Time) Decision {
	spec := model.Spec
	d := &decider{model: model, observed: observed, now: now.Truncate(time.Second)} // as status keeps it
	d.wanted = v1alpha1.Serving{Hash: hashOf(spec.Bundle, spec.HotPath), Bundle: spec.Bundle, HotPath: spec.HotPath}
	d.Status = *model.Status.DeepCopy()
	d.Status.ObservedGeneration = model.Generation
	if observed.Foreign != "" {
		d.nameTaken()
		return d.Decision
	}
	d.count()
	if refused := d.Status.Refused; refused != nil && refused.Hash != d.wanted.Hash {
		d.Status.Refused = nil // something else is wanted
	}
	serving := d.Status.Serving
	switch {
	case serving == nil || spec.Replicas == 0 && serving.Hash != d.wanted.Hash && d.Status.Refused == nil:
		d.install() // there is nothing that a change could be tried beside
	case serving.Hash == d.wanted.Hash:
		d.Status.Refused = nil
		d.rollOut()
	case d.Status.Refused != nil:
		d.endTrial()
		d.settle()
	default:
		d.try()
	}
	d.conditionRolledBack()
	return d.Decision
}

// nameTaken leaves all as it is, for who owns what has our name is somebody else.
func (d *decider) nameTaken() {
	d.HandsOff, d.Again = true, lookAgain
	why := fmt.Sprintf("%s is there already and not this Model's: delete it, or name the Model otherwise", d.observed.Foreign)
	d.condition(v1alpha1.ConditionReady, false, reasonNameTaken, why)
	if d.condition(v1alpha1.ConditionProgressing, false, reasonNameTaken, why) {
		d.event(corev1.EventTypeWarning, reasonNameTaken, why)
	}
}

// count says how many there are.
func (d *decider) count() {
	d.Status.Replicas, d.Status.ReadyReplicas = 0, 0
	for _, each := range []*Deployed{d.observed.Serving, d.observed.Trial} {
		if each != nil {
			d.Status.Replicas += each.Replicas
			d.Status.ReadyReplicas += each.Ready
		}
	}
}

// install takes what is wanted without a trial. It serves once one that is ready has told its revision.
func (d *decider) install() {
	d.endTrial()
	d.Status.Serving = nil
	if d.Status.Refused != nil {
		d.ready(false, d.Status.Refused.Reason, "nothing serves: "+d.Status.Refused.Why)
		d.condition(v1alpha1.ConditionProgressing, false, d.Status.Refused.Reason, "another spec: "+d.Status.Refused.Why)
		return
	}
	d.Serving = &Wanted{d.wanted, d.model.Spec.Replicas}
	first, is := d.observed.First, d.observed.Serving
	if is == nil || is.Hash != d.wanted.Hash || first == nil || !first.Ready {
		d.Status.Revision = ""
		d.waitForReplicas(reasonInstalling, first)
		return
	}
	if first.Revision == "" {
		d.Again = askAgain
		d.ready(false, reasonInstalling, "it is not known yet which revision is served")
		d.progress(reasonInstalling, "the revision, which a hot path does not tell: "+first.Why)
		return
	}
	if d.isWrong(first.Revision) {
		d.refuse(reasonRevision, first.Revision, d.wrong(first.Revision))
		d.Serving = nil
		d.ready(false, reasonRevision, "nothing serves: "+d.Status.Refused.Why)
		d.condition(v1alpha1.ConditionProgressing, false, reasonRevision, "another spec: "+d.Status.Refused.Why)
		return
	}
	d.Status.Serving, d.Status.Revision = &d.wanted, first.Revision
	d.event(corev1.EventTypeNormal, reasonInstalled, "revision "+first.Revision+" is served")
	d.settle()
}

// try lets one replica show what a change does.
func (d *decider) try() {
	trial := d.Status.Trial
	if trial == nil || trial.Hash != d.wanted.Hash {
		trial = &v1alpha1.Trial{Hash: d.wanted.Hash, StartedAt: metav1.NewTime(d.now)}
		d.Status.Trial = trial
		d.event(corev1.EventTypeNormal, reasonTrying, fmt.Sprintf("a change is tried by %s: %s with %s",
			trialName(d.model.Name), d.wanted.HotPath.Image, d.wanted.Bundle.Image))
	}
	d.serve()
	d.Trial = &Wanted{d.wanted, 1}
	tried := d.observed.Tried
	if is := d.observed.Trial; is == nil || is.Hash != d.wanted.Hash {
		// Its time begins with its Deployment, which an operator that died may not have made.
		trial.StartedAt, tried = metav1.NewTime(d.now), nil
	}
	if tried == nil {
		tried = &Pod{Why: "there is no pod yet"}
	}
	if tried.Revision != "" {
		trial.Revision = tried.Revision
		if d.isWrong(tried.Revision) {
			d.takeBack(reasonRevision, d.wrong(tried.Revision))
			return
		}
	}
	verdict := d.judge(trial, *tried)
	switch verdict.is {
	case waits:
		d.Again = verdict.again
		d.progress(verdict.reason, verdict.message)
	case fails:
		d.takeBack(verdict.reason, verdict.message)
	case passes:
		d.event(corev1.EventTypeNormal, reasonPassed, verdict.message)
		d.Status.Serving, d.Status.Revision = &d.wanted, trial.Revision
		d.rollOut()
	}
}

// rollOut gives to all what serves by decision; the trial helps until they are there.
func (d *decider) rollOut() {
	is, trial := d.observed.Serving, d.Status.Trial
	arrived := is != nil && is.Hash == d.wanted.Hash && is.RolledOut
	if trial != nil && trial.Hash == d.wanted.Hash && !arrived {
		d.serve()
		d.Trial = &Wanted{d.wanted, 1}
		d.progress(reasonRollingOut, "the others to follow: "+d.replicas())
		return
	}
	if trial != nil && trial.Hash == d.wanted.Hash {
		d.Status.Trial = nil
		d.event(corev1.EventTypeNormal, reasonRolledOut, "all replicas serve revision "+d.Status.Revision)
	}
	d.endTrial()
	d.settle()
}

// takeBack ends a trial for good.
func (d *decider) takeBack(reason, why string) {
	d.refuse(reason, d.Status.Trial.Revision, why)
	d.Status.Trial, d.Trial, d.Again = nil, nil, 0
	d.settle()
}

func (d *decider) refuse(reason, revision, why string) {
	d.Status.Refused = &v1alpha1.Refused{Hash: d.wanted.Hash, Revision: revision, At: metav1.NewTime(d.now), Reason: reason, Why: why}
	d.event(corev1.EventTypeWarning, eventRolledBack, why)
}

// endTrial ends one of which the outcome does not matter any more.
func (d *decider) endTrial() {
	if d.Status.Trial != nil {
		d.Status.Trial = nil
		d.event(corev1.EventTypeNormal, reasonNoTrial, "what was tried is not wanted any more")
	}
}

// settle serves what serves, and waits for as many as are wanted.
func (d *decider) settle() {
	d.serve()
	if d.isServed() {
		d.condition(v1alpha1.ConditionProgressing, false, reasonSettled, "nothing")
		return
	}
	reason := reasonScaling
	if is := d.observed.Serving; is == nil || is.Hash != d.Status.Serving.Hash {
		reason = reasonRollingOut
	}
	d.progress(reason, d.replicas())
}

// serve has what serves go on.
func (d *decider) serve() {
	d.Serving = &Wanted{*d.Status.Serving, d.model.Spec.Replicas}
	if d.isServed() {
		d.ready(true, reasonServed, d.replicas())
	} else {
		d.ready(false, reasonTooFew, d.replicas())
	}
}

func (d *decider) isServed() bool {
	is := d.observed.Serving
	return is != nil && is.Hash == d.Status.Serving.Hash && is.RolledOut && is.Ready == d.model.Spec.Replicas
}

func (d *decider) waitForReplicas(reason string, first *Pod) {
	message := d.replicas()
	if first != nil && first.Why != "" {
		message += ": " + first.Why
	}
	if d.model.Spec.Replicas == 0 {
		d.ready(true, reasonServed, message)
		d.condition(v1alpha1.ConditionProgressing, false, reasonSettled, "nothing")
		return
	}
	d.ready(false, reason, message)
	d.progress(reason, message)
}

func (d *decider) replicas() string {
	ready := int32(0)
	if is := d.observed.Serving; is != nil {
		ready = is.Ready
	}
	return fmt.Sprintf("%d of %d replicas ready", ready, d.model.Spec.Replicas)
}

func (d *decider) isWrong(revision string) bool {
	return d.wanted.Bundle.Revision != "" && d.wanted.Bundle.Revision != revision
}

func (d *decider) wrong(revision string) string {
	return fmt.Sprintf("the image has revision %s of %s, and bundle.revision is %s",
		revision, bundleName(d.model.Name, d.wanted.Bundle), d.wanted.Bundle.Revision)
}

func (d *decider) event(kind, reason, message string) {
	d.Events = append(d.Events, Event{kind, reason, message})
}
