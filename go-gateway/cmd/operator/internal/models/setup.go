// Package models makes hot paths of Models, and tries each change of one beside those that serve before all follow.
//
// What is to be done is decided by decide.go, which is pure: all that is known goes in, and what to write comes out. Reconciler brings
// both together. It must not depend on package tenants.
package models

import (
	"context"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"triptych.dev/gateway/cmd/operator/api/v1alpha1"
)

// Settings are what is the same of all Models.
type Settings struct {
	// Where Models are looked for, and hot paths are made.
	Namespace string
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
	// How long a new one is ready before an old one goes, still serves before SIGTERM, and may take to end what it does.
	MinReady, PreStop, Drain time.Duration
	// Where traces go; empty: nowhere.
	OTLPEndpoint string
}

// Setup registers what reconciles Models.
func Setup(m manager.Manager, settings Settings) error {
	return ctrl.NewControllerManagedBy(m).Named("model").For(&v1alpha1.Model{}).Complete(&Reconciler{settings: settings})
}

// Reconciler brings one Model a step further.
type Reconciler struct {
	settings Settings
}

// Reconcile is called after each change, and when the last call asked for it.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	return reconcile.Result{}, nil
}
