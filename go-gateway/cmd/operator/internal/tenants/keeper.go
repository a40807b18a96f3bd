package tenants

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"triptych.dev/gateway/cmd/operator/api/v1alpha1"
)

const (
	// finalizer keeps a Tenant until its keys are revoked.
	finalizer = "triptych.dev/keys"
	ready     = "Ready"
	// lookEvery is how often a gateway is asked whether a key still works.
	lookEvery = 10 * time.Minute
	// Between tries while a gateway, or somebody, is waited for.
	firstRetry, lastRetry = time.Second, time.Minute
	// callsTimeout bounds what one look at a Tenant waits for gateways and the API server.
	callsTimeout = 45 * time.Second
)

// verdict is the condition Ready: an empty reason says that all is as it was asked for.
type verdict struct{ reason, message string }

// keeper keeps the keys of Tenants, and tells how each is. Nobody else writes their status.
type keeper struct {
	client   client.Client
	secrets  secrets
	gateway  keyMaker
	outcomes *outcomes
	events   events.EventRecorder
	retry    workqueue.TypedRateLimiter[reconcile.Request]
	now      func() time.Time
}

func newRetry() workqueue.TypedRateLimiter[reconcile.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry)
}

// subject is a Tenant that is worked on, and its status as the API server has it.
type subject struct {
	*v1alpha1.Tenant
	saved v1alpha1.TenantStatus
}

// Reconcile is called after each change of a Tenant or its Secret, when something else came of it, and when the last call asked for it.
func (k *keeper) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, callsTimeout)
	defer cancel()
	var found v1alpha1.Tenant
	if err := k.client.Get(ctx, request.NamespacedName, &found); err != nil {
		k.retry.Forget(request)
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	tenant := &subject{&found, *found.Status.DeepCopy()}
	came, known := k.outcomes.of(tenant.Tenant)
	var is verdict
	var err error
	switch {
	case !tenant.DeletionTimestamp.IsZero():
		if is, err = k.release(ctx, tenant); is == (verdict{}) && err == nil {
			k.retry.Forget(request)
			return reconcile.Result{}, nil
		}
	case !known: // it is called again once it is
		return reconcile.Result{}, nil
	default:
		is, err = k.keep(ctx, tenant, came)
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) { // somebody was quicker: look again
		return reconcile.Result{RequeueAfter: k.retry.When(request)}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	if err := k.tell(ctx, tenant, is); err != nil {
		if apierrors.IsConflict(err) {
			return reconcile.Result{RequeueAfter: k.retry.When(request)}, nil
		}
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if is.waits() {
		return reconcile.Result{RequeueAfter: k.retry.When(request)}, nil
	}
	k.retry.Forget(request)
	return reconcile.Result{RequeueAfter: k.again(tenant)}, nil
}

// waits reports whether it is for time to mend, and not for a change of what is watched here.
func (v verdict) waits() bool {
	switch v.reason {
	case reasonNotYetKnown, reasonGatewayUnreachable, reasonGatewayRefuses, reasonSecretTaken:
		return true
	}
	return false
}

// again is after which time a Tenant that is as it was asked for is to be looked at; 0: at no time.
func (k *keeper) again(tenant *subject) time.Duration {
	if tenant.Status.Key == nil {
		return 0
	}
	next := k.now().Add(lookEvery)
	for _, at := range tenant.Status.Previous {
		next = earlier(next, at.EndsAt.Time)
	}
	if at := tenant.Status.Key.RotatesAt; at != nil {
		next = earlier(next, at.Time)
	}
	return max(next.Sub(k.now()), firstRetry)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// keep brings a Tenant's key to what is wanted.
func (k *keeper) keep(ctx context.Context, tenant *subject, came outcome) (verdict, error) {
	is := verdict{came.reason, came.message}
	if tenant.Spec.Key == nil {
		released, err := k.release(ctx, tenant)
		return is.or(released), err
	}
	if came.plan == "" { // gateways would refuse it
		return is, nil
	}
	if !controllerutil.ContainsFinalizer(tenant.Tenant, finalizer) {
		if err := k.changeFinalizer(ctx, tenant, controllerutil.AddFinalizer); err != nil {
			return verdict{}, err
		}
	}
	kept, err := k.keepKey(ctx, tenant)
	return is.or(kept), err
}

// or is the first of two that is not all right, with what the other one says.
func (v verdict) or(other verdict) verdict {
	switch {
	case v.reason == "":
		return other
	case other.reason == "":
		return v
	}
	return verdict{v.reason, v.message + " " + other.message}
}

func (k *keeper) changeFinalizer(ctx context.Context, tenant *subject, change func(client.Object, string) bool) error {
	before := tenant.DeepCopy()
	change(tenant.Tenant, finalizer)
	// What the answer says of the status is what was saved last.
	status := tenant.Status
	err := k.client.Patch(ctx, tenant.Tenant, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	tenant.Status = status
	if err != nil {
		return fmt.Errorf("writing the finalizer: %w", err)
	}
	return nil
}

// save writes the status where it is another one than the API server has. It fails where that is not the one that was read.
func (k *keeper) save(ctx context.Context, tenant *subject) error {
	if equality.Semantic.DeepEqual(tenant.saved, tenant.Status) {
		return nil
	}
	if err := k.client.Status().Update(ctx, tenant.Tenant); err != nil {
		return fmt.Errorf("writing the status: %w", err)
	}
	tenant.saved = *tenant.Status.DeepCopy()
	return nil
}

// tell writes the condition, and an event when it is another one.
func (k *keeper) tell(ctx context.Context, tenant *subject, is verdict) error {
	condition := metav1.Condition{Type: ready, Status: metav1.ConditionTrue, Reason: reasonReady, ObservedGeneration: tenant.Generation,
		Message: fmt.Sprintf("The tenant is in the ConfigMap of gateways with the plan %q.", tenant.Spec.Plan)}
	if tenant.Status.Key != nil && tenant.Spec.Key != nil {
		condition.Message = fmt.Sprintf("The tenant is in the ConfigMap of gateways with the plan %q, and its key is in the Secret %s.", tenant.Spec.Plan, tenant.Status.Key.SecretName)
	}
	kind := corev1.EventTypeNormal
	if is.reason != "" {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, is.reason, bounded(is.message)
		if is.reason != reasonNotYetKnown {
			kind = corev1.EventTypeWarning
		}
	}
	before := meta.FindStatusCondition(tenant.Status.Conditions, ready)
	changed := before == nil || before.Reason != condition.Reason
	if key := tenant.Status.Key; key != nil && tenant.Spec.Key != nil {
		key.RotatesAt = rotatesAt(*tenant.Spec.Key, key)
	}
	meta.SetStatusCondition(&tenant.Status.Conditions, condition)
	tenant.Status.ObservedGeneration = tenant.Generation
	if err := k.save(ctx, tenant); err != nil {
		return err
	}
	if changed {
		k.events.Eventf(tenant.Tenant, nil, kind, condition.Reason, "Reconcile", "%s", condition.Message)
		logf.FromContext(ctx).Info("a tenant's condition changed", "reason", condition.Reason, "why", condition.Message)
	}
	return nil
}

// bounded is a message that a condition and an event have room for.
func bounded(message string) string {
	const most = 1000 // of the 1,024 bytes of an event's note
	if len(message) <= most {
		return message
	}
	for end := most; ; end-- {
		if message[end]&0xc0 != 0x80 { // where a character begins
			return message[:end] + "…"
		}
	}
}
