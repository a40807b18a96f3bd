package models

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"triptych.dev/gateway/cmd/operator/api/v1alpha1"
)

// condition says it, and whether that is news: another status or another reason.
func (d *decider) condition(kind string, is bool, reason, message string) bool {
	status := metav1.ConditionFalse
	if is {
		status = metav1.ConditionTrue
	}
	before := meta.FindStatusCondition(d.Status.Conditions, kind)
	news := before == nil || before.Status != status || before.Reason != reason
	meta.SetStatusCondition(&d.Status.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message,
		ObservedGeneration: d.model.Generation, LastTransitionTime: metav1.NewTime(d.now),
	})
	return news
}

func (d *decider) ready(is bool, reason, message string) {
	d.condition(v1alpha1.ConditionReady, is, reason, message)
}

func (d *decider) progress(reason, message string) {
	d.condition(v1alpha1.ConditionProgressing, true, reason, message)
}

func (d *decider) conditionRolledBack() {
	if refused := d.Status.Refused; refused != nil {
		d.condition(v1alpha1.ConditionRolledBack, true, refused.Reason, refused.Why)
		return
	}
	d.condition(v1alpha1.ConditionRolledBack, false, reasonNone, "what is wanted was not taken back")
}

// seconds is a duration as Kubernetes has it.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }
