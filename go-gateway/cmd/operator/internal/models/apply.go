package models

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"triptych.dev/gateway/cmd/operator/api/v1alpha1"
)

// fieldManager is whose the fields are that we set. Others may set those that we do not.
const fieldManager = "triptych-operator"

// apply has the cluster be as was decided. What is so already is not changed by it.
func (r *Reconciler) apply(ctx context.Context, model *v1alpha1.Model, decision Decision) error {
	return errors.Join(
		r.put(ctx, r.settings.budget(model)),
		r.part(ctx, model, partServing, model.Name, decision.Serving),
		r.part(ctx, model, partTrial, trialName(model.Name), decision.Trial),
	)
}

func (r *Reconciler) part(ctx context.Context, model *v1alpha1.Model, part, name string, wanted *Wanted) error {
	if wanted != nil {
		return r.put(ctx, r.settings.deployment(model, part, *wanted))
	}
	found := new(appsv1.Deployment)
	there, err := r.find(ctx, model, name, found)
	if err != nil || !there || found.DeletionTimestamp != nil || !metav1.IsControlledBy(found, model) {
		return err
	}
	err = r.client.Delete(ctx, found, client.Preconditions{UID: &found.UID}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("deleting Deployment %s: %w", name, err)
	}
	return nil
}

// put makes an object, or changes what differs of the fields that are ours.
func (r *Reconciler) put(ctx context.Context, object client.Object) error {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return fmt.Errorf("writing %T %s: %w", object, object.GetName(), err)
	}
	delete(fields, "status") // somebody else's
	applied := client.ApplyConfigurationFromUnstructured(&unstructured.Unstructured{Object: fields})
	if err := r.client.Apply(ctx, applied, client.FieldOwner(fieldManager), client.ForceOwnership); err != nil {
		return fmt.Errorf("applying %T %s: %w", object, object.GetName(), err)
	}
	return nil
}
