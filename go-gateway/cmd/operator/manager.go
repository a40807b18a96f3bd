package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"triptych.dev/gateway/cmd/operator/api/v1alpha1"
	"triptych.dev/gateway/cmd/operator/internal/models"
	"triptych.dev/gateway/cmd/operator/internal/tenants"
)

const (
	// Objects that are worked on at a time, of each kind. One of them may wait for pods that do not answer.
	workers = 4
	// One object, with pods that do not answer and a slow API server. (A timeout of the client would end its watches too.)
	reconcileTimeout = time.Minute
	// What runs at SIGTERM may take so long: less than the 30 s that a pod has.
	stopTimeout = 20 * time.Second
	// An API server that is away at the start, or kinds that are not installed yet, are waited for.
	syncTimeout = 24 * time.Hour
)

// newManager makes all that runs. It does not call the API server.
func newManager(s *settings, logger *slog.Logger) (manager.Manager, error) {
	log := logr.FromSlogHandler(logger.Handler())
	ctrl.SetLogger(log)
	klog.SetLogger(log)
	config, err := clusterConfig(s)
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("registering kinds: %w", err)
	}
	renew := s.lease * 2 / 3
	retry := s.lease / 8
	m, err := ctrl.NewManager(config, manager.Options{
		Scheme:                        scheme,
		Logger:                        log,
		Cache:                         cache.Options{DefaultNamespaces: map[string]cache.Config{s.namespace: {}}},
		Metrics:                       metricsserver.Options{BindAddress: s.metricsAddress},
		HealthProbeBindAddress:        s.healthAddress,
		LeaderElection:                s.leaderElection,
		LeaderElectionNamespace:       s.namespace,
		LeaderElectionID:              s.leaderElectionID(),
		LeaderElectionReleaseOnCancel: true, // nothing of ours runs on once Start has returned
		LeaseDuration:                 &s.lease,
		RenewDeadline:                 &renew,
		RetryPeriod:                   &retry,
		GracefulShutdownTimeout:       new(stopTimeout),
		Controller:                    ctrlconfig.Controller{CacheSyncTimeout: syncTimeout, ReconciliationTimeout: reconcileTimeout, MaxConcurrentReconciles: workers},
	})
	if err != nil {
		return nil, fmt.Errorf("making the manager: %w", err)
	}
	synced := func(request *http.Request) error {
		if !m.GetCache().WaitForCacheSync(request.Context()) {
			return errors.New("what the API server has is not here yet")
		}
		return nil
	}
	if err := errors.Join(m.AddHealthzCheck("ping", healthz.Ping), m.AddReadyzCheck("cache", synced)); err != nil {
		return nil, fmt.Errorf("adding probes: %w", err)
	}
	return m, setup(m, s)
}

// setup registers the parts.
func setup(m manager.Manager, s *settings) error {
	err := models.Setup(m, models.Settings{Release: s.release, Pods: s.pods})
	if err != nil {
		return fmt.Errorf("setting up models: %w", err)
	}
	if s.tenants == "" {
		return nil
	}
	err = tenants.Setup(m, tenants.Settings{
		Namespace: s.namespace, Tenants: s.tenants, Plans: s.plans, AdminURL: s.adminURL, AdminTokenFile: s.adminTokenFile,
	})
	if err != nil {
		return fmt.Errorf("setting up tenants: %w", err)
	}
	return nil
}

// clusterConfig is how to reach the API server: as a pod does, or by a kubeconfig.
func clusterConfig(s *settings) (*rest.Config, error) {
	var config *rest.Config
	var err error
	if s.kubeconfig == "" {
		config, err = rest.InClusterConfig()
	} else {
		config, err = clientcmd.BuildConfigFromFlags("", s.kubeconfig)
	}
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig %q: %w", s.kubeconfig, err)
	}
	config.UserAgent = "triptych-operator"
	// An operator has few objects; more than that is a loop, which is to hurt nobody.
	config.QPS, config.Burst = 20, 40
	return config, nil
}
