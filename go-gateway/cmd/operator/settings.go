package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"time"

	"triptych.dev/gateway/cmd/operator/internal/models"
	"triptych.dev/gateway/internal/command"
)

// settings are the operator's. Each is a flag and a variable of the environment.
type settings struct {
	kubeconfig, namespace, release string

	leaderElection bool
	leaseName      string
	lease          time.Duration

	pods models.Pods

	tenants, plans, adminURL, adminTokenFile string

	metricsAddress, healthAddress string
	logLevel                      slog.Level
}

// table has them all.
func (s *settings) table() command.Table {
	return command.Table{Program: "operator", Rows: []command.Setting{
		command.Text("kubeconfig", "path", "", &s.kubeconfig, "How to reach the API server. Empty: as a pod of the cluster, by its service account."),
		name("namespace", "", &s.namespace, "The namespace whose objects are looked at: that of the release. No other one is touched."),
		name("release", "", &s.release, "The name of the Helm release whose gateways send requests to the hot paths, and whose network policies they are under."),
		boolean("leader-election", true, &s.leaderElection, "Several operators agree on one that works, by a lease. Without it there must be one alone."),
		optionalName("lease-name", &s.leaseName, "The lease's name. Empty: that of the release with `-operator` behind it."),
		command.Duration("lease-duration", 15*time.Second, time.Second, 5*time.Minute, &s.lease,
			"How long after its last sign of life a leader is taken for dead. One that cannot give a sign for two thirds of it ends with status 1, and waits for its turn once it is started again."),
		choice("image-pull-policy", []string{"IfNotPresent", "Always", "Never"}, &s.pods.PullPolicy, "When nodes fetch the images of hot paths."),
		list("image-pull-secrets", "name,…", &s.pods.PullSecrets, "The secrets with which they fetch them."),
		quantity("models-size", "2Gi", &s.pods.ModelsSize, "How much the models of an image may take on a node."),
		command.Duration("min-ready", 40*time.Second, 0, time.Hour, &s.pods.MinReady,
			"How long a new hot path is ready before an old one goes: until cluster DNS and gateways know of it."),
		command.Duration("pre-stop", 10*time.Second, 0, time.Hour, &s.pods.PreStop,
			"How long a hot path that is to go still serves before SIGTERM, so that gateways leave it by themselves."),
		command.Duration("drain", 300*time.Second, 0, time.Hour, &s.pods.Drain, "After that, how long requests may take to end."),
		command.Text("otlp-endpoint", "URL", "", &s.pods.OTLPEndpoint, "Where hot paths send traces. Empty: nowhere."),
		optionalName("tenants", &s.tenants, "The ConfigMap that is made of the Tenants, which gateways have mounted. Empty: Tenants are left alone, and the next three have no effect."),
		optionalName("plans", &s.plans, "The ConfigMap with the plans, under the key `plans.yaml`."),
		optionalURL("admin-url", &s.adminURL, []string{"http"}, "The admin API of the gateways, which makes keys."),
		command.Text("admin-token-file", "path", "", &s.adminTokenFile, "File with its credential. It is read again when it changes."),
		command.HostPort("metrics-address", "127.0.0.1:9467", &s.metricsAddress, "For `/metrics`."),
		command.HostPort("health-address", "127.0.0.1:9468", &s.healthAddress, "For `/healthz` and `/readyz`."),
		command.LogLevel("log-level", &s.logLevel, "debug, info, warn or error."),
	}}
}

// parse reads all settings, and reports all faults together. A flag beats the environment.
func parse(flags *flag.FlagSet, arguments []string, lookup command.Lookup) (*settings, error) {
	s := new(settings)
	err := s.table().Parse(flags, arguments, lookup, s.check)
	return s, err
}

func (s *settings) check() error {
	var faults []error
	for name, value := range map[string]time.Duration{"min-ready": s.pods.MinReady, "pre-stop": s.pods.PreStop, "drain": s.pods.Drain} {
		if value%time.Second != 0 {
			faults = append(faults, fmt.Errorf("--%s: %v is not whole seconds, which is what pods know", name, value))
		}
	}
	if s.tenants == "" {
		return errors.Join(faults...)
	}
	for _, needed := range []struct{ name, value string }{
		{"plans", s.plans}, {"admin-url", s.adminURL}, {"admin-token-file", s.adminTokenFile},
	} {
		if needed.value == "" {
			faults = append(faults, fmt.Errorf("--%s: it is missing, and --tenants needs it", needed.name))
		}
	}
	return errors.Join(faults...)
}

// leaderElectionID is the name of the lease.
func (s *settings) leaderElectionID() string {
	if s.leaseName != "" {
		return s.leaseName
	}
	return s.release + "-operator"
}
