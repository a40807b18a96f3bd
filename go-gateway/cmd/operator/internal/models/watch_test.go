package models

import (
	"errors"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"triptych.dev/gateway/cmd/operator/internal/live"
)

func told(pod string, restarts int32, requests float64) reading {
	return reading{Process: process{types.UID(pod), restarts}, Figures: live.Figures{Requests: requests}}
}

func TestATrialIsComparedWithWhatOthersDidInTheSameTime(t *testing.T) {
	var all watches
	unread := reading{Process: process{"t", 0}, Unread: errors.New("no answer")}
	if w := all.note("m", "h", unread, []reading{told("a", 0, 5)}, noon); w != nil {
		t.Fatalf("it is watched before it was read: %+v", w)
	}
	for i, step := range []struct {
		trial         reading
		beside        []reading
		mine, theirs  float64
		unread, ended bool
	}{
		{told("t", 0, 7), []reading{told("a", 0, 1000), told("b", 0, 2000)}, 0, 0, false, false},
		{told("t", 0, 17), []reading{told("a", 0, 1100), told("b", 0, 2010)}, 10, 110, false, false},
		{unread, []reading{{Process: process{"a", 0}, Unread: errors.New("no answer")}, told("b", 0, 2020)}, 10, 120, true, false},
		// a was not read for once, c is new, and b is gone: what it did counts.
		{told("t", 0, 18), []reading{told("a", 0, 1200), told("c", 0, 9999)}, 11, 220, false, false},
		// a began again.
		{told("t", 0, 18), []reading{told("a", 1, 30), told("c", 0, 10000)}, 11, 251, false, false},
		{told("t", 1, 3), nil, 14, 251, false, true},
		{told("t", 1, 4), nil, 15, 251, false, true},
	} {
		w := all.note("m", "h", step.trial, step.beside, noon.Add(time.Duration(i)*time.Second))
		if w == nil || w.Trial.Requests != step.mine || w.Beside.Requests != step.theirs || (w.Unread != "") != step.unread || w.Ended != step.ended || w.Since != noon {
			t.Fatalf("step %d: %+v", i, w)
		}
	}
	later := noon.Add(time.Hour)
	if w := all.note("m", "other", told("t", 1, 4), nil, later); w.Since != later || w.Trial.Requests != 0 {
		t.Errorf("another change at the same pod: %+v", w)
	}
	for name, w := range map[string]*Watched{
		"another pod":    all.note("m", "h", told("u", 0, 100), nil, later),
		"another change": all.note("m", "i", told("u", 0, 100), nil, later),
		"another model":  all.note("n", "i", told("u", 0, 100), nil, later),
	} {
		if w.Since != later || w.Trial.Requests != 0 || w.Beside.Requests != 0 || w.Ended {
			t.Errorf("%s: %+v", name, w)
		}
	}
	all.forget("m")
	if all.has("m") || !all.has("n") {
		t.Error("the wrong one is forgotten")
	}
}
