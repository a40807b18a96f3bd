package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"triptych.dev/gateway/cmd/operator/internal/models"
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

// setting is a row of the table.
type setting struct {
	name, unit, value string // value: the default
	meaning           string
	parse             func(string) error
	show              func() string
}

func (s setting) env() string {
	return "OPERATOR_" + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

func (s *settings) table() []setting {
	return []setting{
		text("kubeconfig", "path", "", &s.kubeconfig, "How to reach the API server. Empty: as a pod of the cluster, by its service account."),
		name("namespace", "", &s.namespace, "The namespace whose objects are looked at: that of the release. No other one is touched."),
		name("release", "", &s.release, "The name of the Helm release whose gateways send requests to the hot paths, and whose network policies they are under."),
		boolean("leader-election", true, &s.leaderElection, "Several operators agree on one that works, by a lease. Without it there must be one alone."),
		optionalName("lease-name", &s.leaseName, "The lease's name. Empty: that of the release with `-operator` behind it."),
		duration("lease-duration", 15*time.Second, time.Second, 5*time.Minute, &s.lease,
			"How long after its last sign of life a leader is taken for dead. One that cannot give a sign for two thirds of it ends with status 1, and waits for its turn once it is started again."),
		choice("image-pull-policy", []string{"IfNotPresent", "Always", "Never"}, &s.pods.PullPolicy, "When nodes fetch the images of hot paths."),
		list("image-pull-secrets", "name,…", &s.pods.PullSecrets, "The secrets with which they fetch them."),
		quantity("models-size", "2Gi", &s.pods.ModelsSize, "How much the models of an image may take on a node."),
		duration("min-ready", 40*time.Second, 0, time.Hour, &s.pods.MinReady,
			"How long a new hot path is ready before an old one goes: until cluster DNS and gateways know of it."),
		duration("pre-stop", 10*time.Second, 0, time.Hour, &s.pods.PreStop,
			"How long a hot path that is to go still serves before SIGTERM, so that gateways leave it by themselves."),
		duration("drain", 300*time.Second, 0, time.Hour, &s.pods.Drain, "After that, how long requests may take to end."),
		text("otlp-endpoint", "URL", "", &s.pods.OTLPEndpoint, "Where hot paths send traces. Empty: nowhere."),
		optionalName("tenants", &s.tenants, "The ConfigMap that is made of the Tenants, which gateways have mounted. Empty: Tenants are left alone, and the next three have no effect."),
		optionalName("plans", &s.plans, "The ConfigMap with the plans, under the key `plans.yaml`."),
		address("admin-url", "URL", "", &s.adminURL, []string{"http"}, "The admin API of the gateways, which makes keys."),
		text("admin-token-file", "path", "", &s.adminTokenFile, "File with its credential. It is read again when it changes."),
		address("metrics-address", "host:port", "127.0.0.1:9467", &s.metricsAddress, nil, "For `/metrics`."),
		address("health-address", "host:port", "127.0.0.1:9468", &s.healthAddress, nil, "For `/healthz` and `/readyz`."),
		logLevel("log-level", &s.logLevel, "debug, info, warn or error."),
	}
}

// writeMarkdown writes the table of docs/operator.md.
func writeMarkdown(out io.Writer) error {
	var table strings.Builder
	table.WriteString("| flag | environment | default | unit | meaning |\n|---|---|---|---|---|\n")
	for _, row := range new(settings).table() {
		shown := "(empty)"
		if row.value != "" {
			shown = "`" + row.value + "`"
		}
		fmt.Fprintf(&table, "| `--%s` | `%s` | %s | %s | %s |\n", row.name, row.env(), shown, row.unit, row.meaning)
	}
	_, err := io.WriteString(out, table.String())
	return err
}

func newFlags() *flag.FlagSet {
	flags := flag.NewFlagSet("operator", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	return flags
}

// parse reads all settings, and reports all faults together. A flag beats the environment.
func parse(flags *flag.FlagSet, arguments []string, lookup func(string) (string, bool)) (*settings, error) {
	s := new(settings)
	table := s.table()
	values, err := gather(flags, table, arguments, lookup)
	if err != nil {
		return nil, err
	}
	return s, errors.Join(assign(flags, table, values), s.check())
}

// gather takes the values of settings from flags, the environment and defaults, by name.
func gather(flags *flag.FlagSet, rows []setting, arguments []string, lookup func(string) (string, bool)) (map[string]string, error) {
	values := map[string]string{}
	for _, row := range rows {
		values[row.name] = row.value
		if value, ok := lookup(row.env()); ok {
			values[row.name] = value
		}
		usage := strings.ReplaceAll(row.meaning, "`", "") + fmt.Sprintf("\n`%s`, default %q, or %s", row.unit, row.value, row.env())
		flags.Func(row.name, usage, func(value string) error {
			values[row.name] = value
			return nil
		})
	}
	return values, flags.Parse(arguments)
}

// assign gives settings their values, and reports all faults together, what else is on the command line too.
func assign(flags *flag.FlagSet, rows []setting, values map[string]string) error {
	var faults []error
	if flags.NArg() > 0 {
		faults = append(faults, fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	}
	for _, row := range rows {
		if err := row.parse(values[row.name]); err != nil {
			faults = append(faults, fmt.Errorf("--%s (%s): %w", row.name, row.env(), err))
		}
	}
	return errors.Join(faults...)
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

// values are the settings in force, for the log.
func (s *settings) values() map[string]string {
	values := map[string]string{}
	for _, row := range s.table() {
		values[strings.ReplaceAll(row.name, "-", "_")] = row.show()
	}
	return values
}
