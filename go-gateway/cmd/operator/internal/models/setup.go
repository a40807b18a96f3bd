// Package models makes hot paths of Models, and tries each change of one beside those that serve before all follow.
//
// Reconciler brings together what observe.go sees, what decide.go makes of it, which is pure, and what apply.go writes. It must not
// depend on package tenants.
package models

import (
	"context"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"triptych.dev/gateway/cmd/operator/api/v1alpha1"
	"triptych.dev/gateway/cmd/operator/internal/live"
)

// Settings are what is the same of all Models.
type Settings struct {
	// The Helm release whose labels hot paths have.
	Release string
	Pods    Pods
}

// Pods is what is the same of all hot paths' pods.
type Pods struct {
	// As Kubernetes has it.
	PullPolicy string
	// Names of secrets.
	PullSecrets []string
	// How much the models of an image may take on a node.
	ModelsSize resource.Quantity
	// How long a new one is ready before an old one goes, still serves before SIGTERM, and may take to end what it does: whole seconds.
	MinReady, PreStop, Drain time.Duration
	// Where traces go; empty: nowhere.
	OTLPEndpoint string
}

// Setup registers what reconciles Models.
func Setup(m manager.Manager, settings Settings) error {
	r := &Reconciler{
		settings: settings, client: m.GetClient(), direct: m.GetAPIReader(), hotpaths: live.Reader{},
		events: m.GetEventRecorder("triptych-operator"), now: time.Now,
	}
	return ctrl.NewControllerManagedBy(m).Named("model").
		For(&v1alpha1.Model{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})). // status is ours
		Owns(&appsv1.Deployment{}).
		Owns(&policyv1.PodDisruptionBudget{}).
		// A cause of failure that has gone, as a quota, is noticed within a minute; and so is a deadline meanwhile.
		WithOptions(controller.Options{RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lookAgain)}).
		Complete(r)
}

// Reconciler brings one Model a step further.
type Reconciler struct {
	settings Settings
	client   client.Client
	// Direct asks the API server itself. A Model's status says what was decided: a cache that lags would have it decided again.
	direct   client.Reader
	hotpaths Hotpaths
	events   events.EventRecorder
	now      func() time.Time
	watches  watches
}

// Reconcile is called after each change, and when the last call asked for it.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	model := new(v1alpha1.Model)
	if err := r.direct.Get(ctx, request.NamespacedName, model); apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil // its pods go with it
	} else if err != nil {
		return reconcile.Result{}, fmt.Errorf("getting model %s: %w", request.Name, err)
	}
	if model.DeletionTimestamp != nil {
		r.watches.forget(model.UID)
		return reconcile.Result{}, nil
	}
	now := r.now()
	observed, err := r.observe(ctx, model, now)
	if err != nil {
		return reconcile.Result{}, err
	}
	decision := decide(model, observed, now)
	decision.Status.Selector = labels.SelectorFromSet(r.settings.labels(model.Name)).String()
	// First what was decided, then what follows of it: whoever comes after us goes on from there.
	if !equality.Semantic.DeepEqual(model.Status, decision.Status) {
		model.Status = decision.Status
		if err := r.client.Status().Update(ctx, model); apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return reconcile.Result{RequeueAfter: askAgain}, nil // it was changed in the meantime
		} else if err != nil {
			return reconcile.Result{}, fmt.Errorf("writing the status of model %s: %w", model.Name, err)
		}
	}
	log := ctrl.LoggerFrom(ctx)
	for _, event := range decision.Events {
		log.Info(event.Message, "reason", event.Reason)
		r.events.Eventf(model, nil, event.Type, event.Reason, "Reconcile", "%s", event.Message)
	}
	if decision.HandsOff {
		return reconcile.Result{RequeueAfter: decision.Again}, nil
	}
	err = r.apply(ctx, model, decision)
	if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsBadRequest(err) {
		r.events.Eventf(model, nil, corev1.EventTypeWarning, reasonNotTaken, "Reconcile", "%s", each(err))
	}
	return reconcile.Result{RequeueAfter: decision.Again}, err
}

// each has the words of all errors that one is joined of, each cut: an event's note has room for those of apply.
func each(err error) string {
	joined, is := err.(interface{ Unwrap() []error })
	if !is {
		return cut(err.Error())
	}
	var words []string
	for _, one := range joined.Unwrap() {
		words = append(words, cut(one.Error()))
	}
	return strings.Join(words, "; ")
}
