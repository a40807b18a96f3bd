package models

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"triptych.dev/gateway/cmd/operator/api/v1alpha1"
	"triptych.dev/gateway/cmd/operator/internal/live"
)

const (
	// Of more hot paths than this, so many are compared with.
	mostBeside = 64
	// All of them are asked within two times of one that does not answer.
	mostAsked = 32
	// Words of others, as of a kubelet, go into status cut to this.
	mostWords = 300
)

// Hotpaths is who asks hot paths.
type Hotpaths interface {
	Figures(ctx context.Context, ip, model string) (live.Figures, error)
	Revision(ctx context.Context, ip, model string) (string, error)
}

// observe looks at what there is of a model. Hot paths are asked only while that decides something.
func (r *Reconciler) observe(ctx context.Context, model *v1alpha1.Model, now time.Time) (Observed, error) {
	var observed Observed
	for _, each := range []struct {
		name string
		into **Deployed
	}{{model.Name, &observed.Serving}, {trialName(model.Name), &observed.Trial}} {
		found := new(appsv1.Deployment)
		there, err := r.find(ctx, model, each.name, found)
		if err != nil {
			return observed, err
		}
		switch {
		case there && !metav1.IsControlledBy(found, model):
			observed.Foreign = "the Deployment " + each.name
		case there:
			*each.into = deployed(found)
		}
	}
	budget := new(policyv1.PodDisruptionBudget)
	there, err := r.find(ctx, model, model.Name, budget)
	if err != nil {
		return observed, err
	}
	if there && !metav1.IsControlledBy(budget, model) {
		observed.Foreign = "the PodDisruptionBudget " + model.Name
	}
	hash := hashOf(model.Spec.Bundle, model.Spec.HotPath)
	serving, trial := model.Status.Serving, model.Status.Trial
	installs := serving == nil && observed.Serving != nil && observed.Serving.Hash == hash
	tries := serving != nil && serving.Hash != hash && trial != nil && trial.Hash == hash && observed.Trial != nil
	if !tries {
		r.watches.forget(model.UID)
	}
	if observed.Foreign != "" || !installs && !tries {
		return observed, nil
	}
	pods := new(corev1.PodList)
	selector := client.MatchingLabels(r.settings.labels(model.Name))
	if err := r.direct.List(ctx, pods, client.InNamespace(model.Namespace), selector); err != nil {
		return observed, fmt.Errorf("listing the pods of model %s: %w", model.Name, err)
	}
	name := bundleName(model.Name, model.Spec.Bundle)
	if installs {
		observed.First = r.first(ctx, name, pick(pods.Items, partServing, hash))
		return observed, nil
	}
	tried := pick(pods.Items, partTrial, hash)
	if len(tried) == 0 {
		return observed, nil
	}
	newest := slices.MaxFunc(tried, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	observed.Tried = r.ask(ctx, name, &newest)
	if observed.Tried.Ready || r.watches.has(model.UID) {
		old := bundleName(model.Name, serving.Bundle)
		beside := slices.DeleteFunc(pick(pods.Items, partServing, ""), func(pod corev1.Pod) bool { return !isReady(&pod) })
		slices.SortFunc(beside, func(a, b corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
		readings := r.read(ctx, append([]corev1.Pod{newest}, beside[:min(len(beside), mostBeside)]...), name, old)
		observed.Watched = r.watches.note(model.UID, hash, readings[0], readings[1:], now)
		if observed.Watched == nil && observed.Tried.Why == "" {
			observed.Tried.Why = cut(readings[0].Unread.Error())
		}
	}
	return observed, nil
}

// find gets an object of the cache; false if there is none.
func (r *Reconciler) find(ctx context.Context, model *v1alpha1.Model, name string, into client.Object) (bool, error) {
	err := r.client.Get(ctx, client.ObjectKey{Namespace: model.Namespace, Name: name}, into)
	if err != nil && !apierrors.IsNotFound(err) {
		return false, fmt.Errorf("getting %T %s: %w", into, name, err)
	}
	return err == nil, nil
}

func deployed(found *appsv1.Deployment) *Deployed {
	wanted, is := int32(1), found.Status
	if found.Spec.Replicas != nil {
		wanted = *found.Spec.Replicas
	}
	return &Deployed{
		Hash: found.Spec.Template.Labels[labelHash], Replicas: is.Replicas, Ready: is.ReadyReplicas,
		RolledOut: is.ObservedGeneration >= found.Generation && is.UpdatedReplicas == wanted && is.ReadyReplicas == wanted && is.Replicas == wanted,
	}
}

// pick takes the pods of a part that are not on their way out; of a hash, if there is one.
func pick(pods []corev1.Pod, part, hash string) []corev1.Pod {
	var picked []corev1.Pod
	for _, pod := range pods {
		if pod.DeletionTimestamp == nil && pod.Labels[labelPart] == part && (hash == "" || pod.Labels[labelHash] == hash) {
			picked = append(picked, pod)
		}
	}
	return picked
}

// first is a pod that is ready, and told its revision if one did; nil if there are none.
func (r *Reconciler) first(ctx context.Context, name string, pods []corev1.Pod) *Pod {
	if len(pods) == 0 {
		return nil
	}
	// The first that is ready. That of which readiness is oldest would be no better: all have the same template.
	at := max(slices.IndexFunc(pods, func(pod corev1.Pod) bool { return isReady(&pod) }), 0)
	return r.ask(ctx, name, &pods[at])
}

// ask says how a pod is.
func (r *Reconciler) ask(ctx context.Context, name string, pod *corev1.Pod) *Pod {
	asked := &Pod{Ready: isReady(pod)}
	if !asked.Ready {
		asked.Why = cut(whyNotReady(pod))
		return asked
	}
	revision, err := r.hotpaths.Revision(ctx, pod.Status.PodIP, name)
	if err != nil {
		asked.Why = cut(err.Error())
	}
	asked.Revision = revision
	return asked
}

// read asks all at once for their figures: the first by one model's name, the others by another's, which a change may have.
func (r *Reconciler) read(ctx context.Context, pods []corev1.Pod, trial, beside string) []reading {
	readings, places := make([]reading, len(pods)), make(chan struct{}, mostAsked)
	var all sync.WaitGroup
	for i := range pods {
		name := beside
		if i == 0 {
			name = trial
		}
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			figures, err := r.hotpaths.Figures(ctx, pods[i].Status.PodIP, name)
			readings[i] = reading{Process: processOf(&pods[i]), Figures: figures, Unread: err}
		})
	}
	all.Wait()
	return readings
}

func processOf(pod *corev1.Pod) process {
	one := process{Pod: pod.UID}
	for _, each := range pod.Status.ContainerStatuses {
		if each.Name == hotpath {
			one.Restarts = each.RestartCount
		}
	}
	return one
}

func isReady(pod *corev1.Pod) bool {
	if pod.Status.PodIP == "" {
		return false
	}
	for _, each := range pod.Status.Conditions {
		if each.Type == corev1.PodReady {
			return each.Status == corev1.ConditionTrue
		}
	}
	return false
}

// whyNotReady is what the cluster says of it; empty if nothing.
func whyNotReady(pod *corev1.Pod) string {
	for _, each := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if waiting := each.State.Waiting; waiting != nil && waiting.Reason != "PodInitializing" && waiting.Reason != "ContainerCreating" {
			return fmt.Sprintf("container %s: %s %s", each.Name, waiting.Reason, waiting.Message)
		}
	}
	for _, each := range pod.Status.Conditions {
		if each.Type == corev1.PodScheduled && each.Status == corev1.ConditionFalse {
			return "it has no node: " + each.Message
		}
	}
	return ""
}

func cut(words string) string {
	if len(words) <= mostWords {
		return words
	}
	runes := []rune(words)
	return string(runes[:min(len(runes), mostWords)]) + "…"
}
