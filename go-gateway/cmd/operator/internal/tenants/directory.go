package tenants

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"triptych.dev/gateway/cmd/operator/api/v1alpha1"
)

// directory writes the file of all tenants, and tells what came of each.
type directory struct {
	settings Settings
	client   client.Client
	plans    client.Reader // of the ConfigMap with plans
	live     client.Reader // of the API server itself: what was written just now is there
	outcomes *outcomes
	// changed are the Tenants of which something else came than before.
	changed chan<- event.TypedGenericEvent[*v1alpha1.Tenant]
}

// Reconcile is called after each change of a Tenant, of plans or of the file.
func (d *directory) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	var all v1alpha1.TenantList
	if err := d.client.List(ctx, &all, client.InNamespace(d.settings.Namespace)); err != nil {
		return reconcile.Result{}, fmt.Errorf("listing Tenants: %w", err)
	}
	asked := make([]wanted, len(all.Items))
	for i, one := range all.Items {
		asked[i] = wanted{one.Name, one.Spec.Plan}
	}
	written, broken := d.readPlans(ctx)
	before, err := d.readFile(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	made := merge(written, broken, before, asked)
	if made.text != "" && made.text != before {
		if err := d.write(ctx, made.text); err != nil {
			return reconcile.Result{}, err
		}
		logf.FromContext(ctx).Info("wrote the tenants file", "config_map", d.settings.Tenants, "tenants", len(asked))
	}
	if made.text == "" && len(asked) == 0 {
		logf.FromContext(ctx).Info("there are no plans, so gateways have no tenants file", "config_map", d.settings.Plans, "error", fmt.Sprint(broken))
	}
	for _, one := range d.outcomes.replace(all.Items, made.outcomes) {
		select {
		case d.changed <- event.TypedGenericEvent[*v1alpha1.Tenant]{Object: &one}:
		case <-ctx.Done():
			d.outcomes.forget() // all are told at the next time
			return reconcile.Result{}, ctx.Err()
		}
	}
	return reconcile.Result{}, nil
}

// readPlans returns the plans as users write them, or why they cannot be had.
func (d *directory) readPlans(ctx context.Context) (string, error) {
	var found corev1.ConfigMap
	err := d.plans.Get(ctx, client.ObjectKey{Namespace: d.settings.Namespace, Name: d.settings.Plans}, &found)
	if apierrors.IsNotFound(err) {
		return "", fmt.Errorf("there is no ConfigMap %s", d.settings.Plans)
	}
	if err != nil {
		return "", fmt.Errorf("reading the ConfigMap %s: %w", d.settings.Plans, err)
	}
	text, is := found.Data[plansKey]
	if !is {
		return "", fmt.Errorf("the ConfigMap %s has no key %s", d.settings.Plans, plansKey)
	}
	return text, nil
}

// readFile returns the file of before; empty if there is none.
func (d *directory) readFile(ctx context.Context) (string, error) {
	var found corev1.ConfigMap
	err := d.live.Get(ctx, client.ObjectKey{Namespace: d.settings.Namespace, Name: d.settings.Tenants}, &found)
	if err != nil && !apierrors.IsNotFound(err) {
		return "", fmt.Errorf("reading the ConfigMap %s: %w", d.settings.Tenants, err)
	}
	return found.Data[tenantsKey], nil
}

func (d *directory) write(ctx context.Context, text string) error {
	file := applycorev1.ConfigMap(d.settings.Tenants, d.settings.Namespace).
		WithLabels(map[string]string{managedByLabel: fieldOwner}).WithData(map[string]string{tenantsKey: text})
	if err := d.client.Apply(ctx, file, client.FieldOwner(fieldOwner), client.ForceOwnership); err != nil {
		return fmt.Errorf("writing the ConfigMap %s: %w", d.settings.Tenants, err)
	}
	return nil
}

// outcomes are what came of all tenants.
type outcomes struct {
	mu sync.Mutex
	by map[string]placed
}

// placed is what came of a tenant as it was at a generation.
type placed struct {
	uid        types.UID
	generation int64
	outcome
}

// of returns what came of a Tenant as it is; false while that is not known.
func (o *outcomes) of(tenant *v1alpha1.Tenant) (outcome, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	found, is := o.by[tenant.Name]
	return found.outcome, is && found.uid == tenant.UID && found.generation == tenant.Generation
}

// replace takes what came of all, and returns those of which it is something else than before.
func (o *outcomes) replace(all []v1alpha1.Tenant, came map[string]outcome) (changed []v1alpha1.Tenant) {
	o.mu.Lock()
	defer o.mu.Unlock()
	fresh := make(map[string]placed, len(all))
	for _, one := range all {
		now := placed{one.UID, one.Generation, came[one.Name]}
		if before, is := o.by[one.Name]; !is || before != now {
			changed = append(changed, one)
		}
		fresh[one.Name] = now
	}
	o.by = fresh
	return changed
}

func (o *outcomes) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.by = nil
}
