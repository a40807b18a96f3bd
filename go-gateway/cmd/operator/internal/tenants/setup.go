// Package tenants makes of Tenants the file of tenants that gateways read, and keeps their keys in Secrets.
//
// merge.go is what the file is, and next.go which key is wanted: both are pure. directory writes the file, and tells keeper what came of
// each tenant; keeper, which alone writes the status of Tenants, asks gateways for keys. It must not depend on package models.
package tenants

import (
	"context"
	"fmt"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"triptych.dev/gateway/cmd/operator/api/v1alpha1"
	"triptych.dev/gateway/internal/adminapi"
)

const (
	plansKey   = "plans.yaml"   // of the ConfigMap with plans
	tenantsKey = "tenants.yaml" // of that which gateways have mounted
)

// Reasons of the condition Ready.
const (
	reasonReady              = "Ready"
	reasonPlanUnknown        = "PlanUnknown"
	reasonPlansInvalid       = "PlansInvalid"
	reasonNameInvalid        = "NameInvalid"
	reasonSecretTaken        = "SecretTaken"
	reasonNotYetKnown        = "NotYetKnown"
	reasonGatewayUnreachable = "GatewayUnreachable"
	reasonGatewayRefuses     = "GatewayRefuses"
)

// Settings are where things are.
type Settings struct {
	Namespace string
	// Names of ConfigMaps: that which gateways have mounted, and that which has the plans.
	Tenants, Plans string
	// The admin API of gateways, as http://host:port, and the file with its credential.
	AdminURL, AdminTokenFile string
}

// Setup registers what reconciles Tenants.
func Setup(m manager.Manager, settings Settings) error {
	at, err := url.Parse(settings.AdminURL)
	if err != nil || at.Host == "" || at.Scheme != "http" {
		return fmt.Errorf("the admin API's address must be as http://host:port: it has no TLS")
	}
	read := tokenOf(settings.AdminTokenFile)
	if _, err := read(); err != nil {
		return err
	}
	gateway := adminapi.NewClientWith(at.Host, read)
	known := &outcomes{}
	changed := make(chan event.TypedGenericEvent[*v1alpha1.Tenant])
	if err := setUpDirectory(m, settings, known, changed); err != nil {
		return fmt.Errorf("setting up the tenants file: %w", err)
	}
	if err := setUpKeeper(m, settings, gateway, known, changed); err != nil {
		return fmt.Errorf("setting up tenants' keys: %w", err)
	}
	return m.Add(manager.RunnableFunc(func(ctx context.Context) error {
		<-ctx.Done()
		gateway.Close()
		return nil
	}))
}

func setUpDirectory(m manager.Manager, settings Settings, known *outcomes, changed chan<- event.TypedGenericEvent[*v1alpha1.Tenant]) error {
	plans, err := narrow(m, settings.Namespace, &corev1.ConfigMap{}, named(settings.Plans))
	if err != nil {
		return err
	}
	file, err := narrow(m, settings.Namespace, metadata("ConfigMap"), named(settings.Tenants))
	if err != nil {
		return err
	}
	// Whatever changes, the file is made of all that there is.
	one := reconcile.Request{NamespacedName: types.NamespacedName{Namespace: settings.Namespace, Name: settings.Tenants}}
	return ctrl.NewControllerManagedBy(m).Named("tenants-file").
		Watches(&v1alpha1.Tenant{}, always[client.Object](one), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(source.Kind(plans, &corev1.ConfigMap{}, always[*corev1.ConfigMap](one))).
		WatchesRawSource(source.Kind(file, metadata("ConfigMap"), always[*metav1.PartialObjectMetadata](one))).
		Complete(&directory{settings: settings, client: m.GetClient(), plans: plans, live: m.GetAPIReader(), outcomes: known, changed: changed})
}

func setUpKeeper(m manager.Manager, settings Settings, gateway keyMaker, known *outcomes, changed <-chan event.TypedGenericEvent[*v1alpha1.Tenant]) error {
	ours, err := labels.NewRequirement(tenantLabel, selection.Exists, nil)
	if err != nil {
		return err
	}
	// Of Secrets their names and owners are kept, and no key.
	owned, err := narrow(m, settings.Namespace, metadata("Secret"), cache.ByObject{Label: labels.NewSelector().Add(*ours)})
	if err != nil {
		return err
	}
	owner := handler.TypedEnqueueRequestForOwner[*metav1.PartialObjectMetadata](m.GetScheme(), m.GetRESTMapper(), &v1alpha1.Tenant{}, handler.OnlyControllerOwner())
	return ctrl.NewControllerManagedBy(m).Named("tenant").
		For(&v1alpha1.Tenant{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(source.Kind(owned, metadata("Secret"), owner)).
		WatchesRawSource(source.Channel(changed, &handler.TypedEnqueueRequestForObject[*v1alpha1.Tenant]{})).
		Complete(&keeper{
			client: m.GetClient(), secrets: secrets{m.GetClient(), m.GetAPIReader()}, gateway: gateway, outcomes: known,
			events: m.GetEventRecorder(fieldOwner), retry: newRetry(), now: time.Now,
		})
}

// narrow is a cache of some objects of a kind, so that no right to others is needed.
func narrow(m manager.Manager, namespace string, object client.Object, which cache.ByObject) (cache.Cache, error) {
	made, err := cache.New(m.GetConfig(), cache.Options{
		HTTPClient: m.GetHTTPClient(), Scheme: m.GetScheme(), Mapper: m.GetRESTMapper(),
		DefaultNamespaces: map[string]cache.Config{namespace: {}},
		ByObject:          map[client.Object]cache.ByObject{object: which},
	})
	if err != nil {
		return nil, err
	}
	return made, m.Add(made)
}

func named(name string) cache.ByObject {
	return cache.ByObject{Field: fields.OneTermEqualSelector("metadata.name", name)}
}

// metadata is an object of a core kind without its content.
func metadata(kind string) *metav1.PartialObjectMetadata {
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(kind))
	return object
}

// always asks for the same, whatever changes.
func always[object any](one reconcile.Request) handler.TypedEventHandler[object, reconcile.Request] {
	return handler.TypedEnqueueRequestsFromMapFunc(func(context.Context, object) []reconcile.Request { return []reconcile.Request{one} })
}
