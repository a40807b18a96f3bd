package models

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"triptych.dev/gateway/cmd/operator/api/v1alpha1"
	"triptych.dev/gateway/cmd/operator/internal/live"
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

const revisionA, revisionB = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"

func aModel(image string) *v1alpha1.Model {
	return &v1alpha1.Model{
		ObjectMeta: metav1.ObjectMeta{Name: "m", Generation: 3},
		Spec: v1alpha1.ModelSpec{
			Bundle: v1alpha1.Bundle{Image: image}, Replicas: 3, HotPath: v1alpha1.HotPath{Image: "hotpath"},
			Rollout: v1alpha1.Rollout{ObserveSeconds: 100, MinRequests: 50, MaxMoreErrorsPerThousand: 10, MaxLatencyPercent: 150, DeadlineSeconds: 300},
		},
	}
}

func servingOf(image string) *v1alpha1.Serving {
	spec := aModel(image).Spec
	return &v1alpha1.Serving{Hash: hashOf(spec.Bundle, spec.HotPath), Bundle: spec.Bundle, HotPath: spec.HotPath}
}

func all(image string) *Deployed {
	return &Deployed{Hash: servingOf(image).Hash, Replicas: 3, Ready: 3, RolledOut: true}
}

// tried is a model that serves a and tries b since noon.
func tried(change func(*v1alpha1.Model)) *v1alpha1.Model {
	model := aModel("b")
	model.Status.Serving, model.Status.Revision = servingOf("a"), revisionA
	model.Status.Trial = &v1alpha1.Trial{Hash: servingOf("b").Hash, StartedAt: metav1.NewTime(noon)}
	if change != nil {
		change(model)
	}
	return model
}

// beside is what there is of it: a trial that is ready, and watched since noon.
func beside(watched Watched, change func(*Observed)) Observed {
	watched.Since = noon
	observed := Observed{
		Serving: all("a"), Trial: &Deployed{Hash: servingOf("b").Hash, Replicas: 1, Ready: 1, RolledOut: true},
		Tried: &Pod{Ready: true, Revision: revisionB}, Watched: &watched,
	}
	if change != nil {
		change(&observed)
	}
	return observed
}

// figures are of so many requests, of which some failed, of so many seconds each.
func figures(requests, failed, seconds float64) live.Figures {
	spent := live.Spent{Seconds: requests * seconds, Count: requests}
	return live.Figures{Requests: requests, Failed: failed, Wait: spent, Run: spent}
}

func TestATrialIsJudged(t *testing.T) {
	good := Watched{Trial: figures(100, 0, .01), Beside: figures(300, 0, .01)}
	unready := func(o *Observed) { o.Tried, o.Watched = &Pod{Why: "container models: ErrImagePull"}, nil }
	for _, c := range []struct {
		name     string
		model    func(*v1alpha1.Model)
		watched  Watched
		observed func(*Observed)
		after    int // seconds since noon
		want     string
		again    int
	}{
		{"it is not there yet", nil, good, func(o *Observed) { o.Trial, o.Tried, o.Watched = nil, nil, nil }, 5, "Trying: the trial to be ready: there is no pod yet", 300},
		{"there never was one", nil, good, func(o *Observed) { o.Trial, o.Tried, o.Watched = nil, nil, nil }, 5000, "Trying: the trial to be ready: there is no pod yet", 300},
		{"it has no pod", nil, good, func(o *Observed) { o.Tried, o.Watched = nil, nil }, 5, "Trying: the trial to be ready: there is no pod yet", 295},
		{"it is that of another change", nil, good, func(o *Observed) { o.Trial.Hash, o.Watched = "other", nil }, 5, "Trying: the trial to be ready: there is no pod yet", 300},
		{"it is not ready", nil, good, unready, 299, "Trying: the trial to be ready: container models: ErrImagePull", 1},
		{"it was not ready in time", nil, good, unready, 300, "refused NotReadyInTime: the trial was not ready in 300 s: container models", 0},
		{"its pod is another one", func(m *v1alpha1.Model) { m.Status.Trial.ReadyAt = new(metav1.NewTime(noon.Add(time.Minute))) }, good, unready, 459, "Trying", 1},
		{"that one too was not ready in time", func(m *v1alpha1.Model) { m.Status.Trial.ReadyAt = new(metav1.NewTime(noon.Add(time.Minute))) }, good, unready, 460, "refused NotReadyInTime", 0},
		{"it is watched", nil, good, nil, 40, "Watching: trial ready, watched for 60 s more, 100 of 50 requests", 5},
		{"it is watched for a second more", nil, good, nil, 99, "Watching: trial ready, watched for 1 s more", 1},
		{"it passed", nil, good, nil, 100, "passed", 0},
		{"it serves another revision", func(m *v1alpha1.Model) { m.Spec.Bundle.Revision = revisionA; tryAgain(m) }, good, ofSpec(revisionA), 1, "refused WrongRevision: the image has revision bbbbbbbbbbbbbbbb of m, and bundle.revision is aaaaaaaaaaaaaaaa", 0},
		{"it serves the revision", func(m *v1alpha1.Model) { m.Spec.Bundle.Revision = revisionB; tryAgain(m) }, good, ofSpec(revisionB), 100, "passed", 0},
		{"its process ended", nil, Watched{Trial: good.Trial, Beside: good.Beside, Ended: true}, nil, 10, "refused ProcessEnded", 0},
		{"ten of a thousand more fail", nil, Watched{Trial: figures(1000, 15, 1), Beside: figures(1000, 5, 1)}, nil, 100, "passed", 0},
		{"eleven of a thousand more fail", nil, Watched{Trial: figures(1000, 16, 1), Beside: figures(1000, 5, 1)}, nil, 100, "refused MoreErrors: 16 of 1000 requests failed at the trial (16 of 1000), 5 beside it: 10 more may", 0},
		{"they fail before the time is over", nil, Watched{Trial: figures(50, 1, 1), Beside: figures(50, 0, 1)}, nil, 1, "refused MoreErrors", 0},
		{"one of few failed", nil, Watched{Trial: figures(49, 1, 1), Beside: figures(50, 0, 1)}, nil, 1, "Watching", 5},
		{"all fail everywhere", nil, Watched{Trial: figures(50, 50, 1), Beside: figures(50, 50, 1)}, nil, 100, "passed", 0},
		{"half as long again", nil, Watched{Trial: figures(50, 0, .15), Beside: figures(50, 0, .1)}, nil, 100, "passed", 0},
		{"longer", nil, Watched{Trial: figures(50, 0, .151), Beside: figures(50, 0, .1)}, nil, 100, "refused Slower: a request's wait and run took 302.00 ms at the trial and 200.00 ms beside it: up to 150 %", 0},
		{"longer, of tokens", nil, Watched{Trial: live.Figures{Requests: 50, Token: live.Spent{Seconds: 2, Count: 1}}, Beside: live.Figures{Token: live.Spent{Seconds: 1, Count: 1}}}, nil, 100, "refused Slower: each next token", 0},
		{"nothing was done beside it", nil, Watched{Trial: figures(50, 0, 9)}, nil, 100, "passed", 0},
		{"too few requests", nil, Watched{Trial: figures(49, 0, 1)}, nil, 100, "Watching: the trial answered 49 of 50 requests; taken back in 300 s", 5},
		{"too few requests to the end", nil, Watched{Trial: figures(49, 0, 1)}, nil, 400, "refused TooFewRequests: the trial answered 49 of 50 requests, 400 s after it was ready", 0},
		{"none are needed", func(m *v1alpha1.Model) { m.Spec.Rollout.MinRequests = 0 }, Watched{}, nil, 100, "passed", 0},
		{"none are needed, and one failed early", func(m *v1alpha1.Model) { m.Spec.Rollout.MinRequests = 0 }, Watched{Trial: figures(1, 1, 1)}, nil, 99, "Watching", 1},
		{"none are needed, and one failed", func(m *v1alpha1.Model) { m.Spec.Rollout.MinRequests = 0 }, Watched{Trial: figures(1, 1, 1)}, nil, 100, "refused MoreErrors", 0},
		{"it is not watched at all", func(m *v1alpha1.Model) { m.Spec.Rollout.MinRequests, m.Spec.Rollout.ObserveSeconds = 0, 0 }, Watched{}, nil, 0, "passed", 0},
		{"it tells no figures any more", nil, Watched{Trial: good.Trial, Unread: "refused"}, nil, 100, "Watching: the trial's metrics cannot be read: refused", 5},
		{"nor to the end", nil, Watched{Trial: good.Trial, Unread: "refused"}, nil, 400, "refused NotWatchable", 0},
		{"it tells no revision", nil, good, func(o *Observed) { o.Tried.Revision = "" }, 400, "refused NotWatchable: the trial does not tell its revision", 0},
		{"it is not ready any more", nil, good, func(o *Observed) { o.Tried.Ready = false }, 399, "Watching: the trial is not ready any more", 1},
		{"nor to the end", nil, good, func(o *Observed) { o.Tried.Ready = false }, 400, "refused NotReadyInTime", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			model := tried(c.model)
			d := decide(model, beside(c.watched, c.observed), noon.Add(time.Duration(c.after)*time.Second))
			if got := outcomeOf(d); !strings.HasPrefix(got, c.want) {
				t.Errorf("%q, and not %q", got, c.want)
			}
			if d.Again != time.Duration(c.again)*time.Second {
				t.Errorf("it looks again in %v, and not in %d s", d.Again, c.again)
			}
			if refused := strings.HasPrefix(c.want, "refused"); refused != (d.Trial == nil) {
				t.Errorf("the trial is %v", d.Trial)
			}
			want := "a"
			if c.want == "passed" {
				want = "b"
			}
			if d.Serving == nil || d.Serving.Bundle.Image != want || d.Serving.Replicas != 3 {
				t.Errorf("what serves is to be %v", d.Serving)
			}
		})
	}
}

// ofSpec has the trial be of a change that wants a revision.
func ofSpec(revision string) func(*Observed) {
	return func(o *Observed) {
		spec := aModel("b").Spec
		spec.Bundle.Revision = revision
		o.Trial.Hash = hashOf(spec.Bundle, spec.HotPath)
	}
}

func tryAgain(m *v1alpha1.Model) { m.Status.Trial.Hash = hashOf(m.Spec.Bundle, m.Spec.HotPath) }

func outcomeOf(d Decision) string {
	if refused := d.Status.Refused; refused != nil {
		return fmt.Sprintf("refused %s: %s", refused.Reason, refused.Why)
	}
	for _, event := range d.Events {
		if event.Reason == reasonPassed {
			return "passed"
		}
	}
	condition := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionProgressing)
	return fmt.Sprintf("%s: %s", condition.Reason, condition.Message)
}

func TestWhatIsWantedIsReached(t *testing.T) {
	refusedB := &v1alpha1.Refused{Hash: servingOf("b").Hash, Reason: reasonErrors, Why: "many failed"}
	for _, c := range []struct {
		name           string
		status         v1alpha1.ModelStatus
		replicas       int32
		observed       Observed
		serves, trying string // images
		ready          bool
		message        string
		events         string
	}{
		{"nothing is there", v1alpha1.ModelStatus{}, 3, Observed{}, "b", "", false, "0 of 3 replicas ready", ""},
		{"the first is on its way", v1alpha1.ModelStatus{}, 3, Observed{Serving: &Deployed{Hash: servingOf("b").Hash, Replicas: 3}, First: &Pod{Why: "it has no node: 0/3"}}, "b", "", false, "0 of 3 replicas ready: it has no node: 0/3", ""},
		{"the first does not tell its revision", v1alpha1.ModelStatus{}, 3, Observed{Serving: all("b"), First: &Pod{Ready: true, Why: "no answer"}}, "b", "", false, "the revision, which a hot path does not tell: no answer", ""},
		{"the first serves", v1alpha1.ModelStatus{}, 3, Observed{Serving: all("b"), First: &Pod{Ready: true, Revision: revisionB}}, "b", "", true, "nothing", reasonInstalled},
		{"another is wanted before the first served", v1alpha1.ModelStatus{}, 3, Observed{Serving: all("a")}, "b", "", false, "3 of 3 replicas ready", ""},
		{"none are wanted", v1alpha1.ModelStatus{}, 0, Observed{Serving: &Deployed{Hash: servingOf("b").Hash, RolledOut: true}}, "b", "", true, "nothing", ""},
		{"a change while none are wanted", v1alpha1.ModelStatus{Serving: servingOf("a")}, 0, Observed{Serving: &Deployed{Hash: servingOf("a").Hash, RolledOut: true}}, "b", "", true, "nothing", ""},
		{"a refused change while none are wanted", v1alpha1.ModelStatus{Serving: servingOf("a"), Refused: refusedB}, 0, Observed{Serving: &Deployed{Hash: servingOf("a").Hash, RolledOut: true}}, "a", "", true, "nothing", ""},
		{"a change", v1alpha1.ModelStatus{Serving: servingOf("a")}, 3, Observed{Serving: all("a")}, "a", "b", true, "the trial to be ready: there is no pod yet", reasonTrying},
		{"another change", v1alpha1.ModelStatus{Serving: servingOf("a"), Trial: &v1alpha1.Trial{Hash: "other"}}, 3, Observed{Serving: all("a")}, "a", "b", true, "the trial to be ready: there is no pod yet", reasonTrying},
		{"another change after one that was refused", v1alpha1.ModelStatus{Serving: servingOf("a"), Refused: &v1alpha1.Refused{Hash: "other"}}, 3, Observed{Serving: all("a")}, "a", "b", true, "the trial to be ready: there is no pod yet", reasonTrying},
		{"a refused change", v1alpha1.ModelStatus{Serving: servingOf("a"), Refused: refusedB}, 3, Observed{Serving: all("a")}, "a", "", true, "nothing", ""},
		{"a refused change, and one is missing", v1alpha1.ModelStatus{Serving: servingOf("a"), Refused: refusedB}, 3, Observed{Serving: &Deployed{Hash: servingOf("a").Hash, Replicas: 3, Ready: 2}}, "a", "", false, "2 of 3 replicas ready", ""},
		{"it is given to all", v1alpha1.ModelStatus{Serving: servingOf("b"), Trial: &v1alpha1.Trial{Hash: servingOf("b").Hash}}, 3, Observed{Serving: all("a")}, "b", "b", false, "the others to follow: 3 of 3 replicas ready", ""},
		{"all have it", v1alpha1.ModelStatus{Serving: servingOf("b"), Trial: &v1alpha1.Trial{Hash: servingOf("b").Hash}}, 3, Observed{Serving: all("b")}, "b", "", true, "nothing", reasonRolledOut},
		{"it is given up", v1alpha1.ModelStatus{Serving: servingOf("b"), Trial: &v1alpha1.Trial{Hash: "other"}}, 3, Observed{Serving: all("b")}, "b", "", true, "nothing", reasonNoTrial},
		{"more are wanted", v1alpha1.ModelStatus{Serving: servingOf("b")}, 5, Observed{Serving: all("b")}, "b", "", false, "3 of 5 replicas ready", ""},
		{"somebody deleted it", v1alpha1.ModelStatus{Serving: servingOf("b")}, 3, Observed{}, "b", "", false, "0 of 3 replicas ready", ""},
		{"somebody deleted what serves beside a refused change", v1alpha1.ModelStatus{Serving: servingOf("a"), Refused: refusedB}, 3, Observed{}, "a", "", false, "0 of 3 replicas ready", ""},
		{"nothing serves, and it was refused", v1alpha1.ModelStatus{Refused: refusedB}, 3, Observed{Serving: all("b")}, "", "", false, "another spec: many failed", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			model := aModel("b")
			model.Spec.Replicas, model.Status = c.replicas, c.status
			d := decide(model, c.observed, noon)
			imageOf := func(wanted *Wanted) string {
				if wanted == nil {
					return ""
				}
				return wanted.Bundle.Image
			}
			if imageOf(d.Serving) != c.serves || imageOf(d.Trial) != c.trying {
				t.Errorf("%q serves and %q is tried, and not %q and %q", imageOf(d.Serving), imageOf(d.Trial), c.serves, c.trying)
			}
			if is := meta.IsStatusConditionTrue(d.Status.Conditions, v1alpha1.ConditionReady); is != c.ready {
				t.Errorf("ready is %t", is)
			}
			progress := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionProgressing)
			if progress.Message != c.message {
				t.Errorf("it waits for %q, and not for %q", progress.Message, c.message)
			}
			var reasons []string
			for _, event := range d.Events {
				reasons = append(reasons, event.Reason)
			}
			if got := strings.Join(reasons, " "); got != c.events {
				t.Errorf("events are %q, and not %q", got, c.events)
			}
		})
	}
}

func TestARefusedFirstInstallServesNothing(t *testing.T) {
	model := aModel("b")
	model.Spec.Bundle.Revision = revisionA
	hash := hashOf(model.Spec.Bundle, model.Spec.HotPath)
	d := decide(model, Observed{Serving: &Deployed{Hash: hash, Replicas: 3, Ready: 1}, First: &Pod{Ready: true, Revision: revisionB}}, noon)
	if d.Serving != nil || d.Status.Refused == nil || d.Status.Refused.Reason != reasonRevision || d.Status.Serving != nil {
		t.Errorf("%+v", d)
	}
}

func TestWhatIsNotOursIsLeftAlone(t *testing.T) {
	model := tried(nil)
	d := decide(model, Observed{Foreign: "the Deployment m"}, noon)
	if !d.HandsOff || d.Again != lookAgain || len(d.Events) != 1 {
		t.Errorf("%+v", d)
	}
	model.Status = d.Status
	if d = decide(model, Observed{Foreign: "the Deployment m"}, noon.Add(time.Minute)); len(d.Events) != 0 {
		t.Errorf("it is told twice: %v", d.Events)
	}
}
