package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"
)

func parsed(arguments string, environment map[string]string) (*settings, error) {
	return parse(new(settings).table().NewFlags(), strings.Fields(arguments), func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	})
}

func TestAFlagBeatsTheEnvironment(t *testing.T) {
	s, err := parsed("--namespace a --release r --drain 7s", map[string]string{"OPERATOR_DRAIN": "nonsense", "OPERATOR_NAMESPACE": "b", "OPERATOR_PRE_STOP": "3s"})
	if err != nil || s.namespace != "a" || s.pods.Drain != 7*time.Second || s.pods.PreStop != 3*time.Second || s.leaderElectionID() != "r-operator" {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestAllFaultsOfSettingsAreToldTogether(t *testing.T) {
	_, err := parsed("--namespace A_B --leader-election perhaps --lease-duration 1ms --image-pull-policy Sometimes --image-pull-secrets a,B "+
		"--models-size much --min-ready 1500ms --tenants t --admin-url http://u:hunter2@h --metrics-address 1 rest", nil)
	if err == nil {
		t.Fatal("no fault")
	}
	for _, part := range []string{
		"--namespace (OPERATOR_NAMESPACE)", "--release", "--leader-election", "--lease-duration", "--image-pull-policy", "--image-pull-secrets",
		"--models-size", "--min-ready", "--plans", "--admin-url", "--admin-token-file", "--metrics-address", `"rest"`,
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("nothing of %s in: %v", part, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Error("a password is told")
	}
}

func TestTheDocumentHasTheSettings(t *testing.T) {
	document, err := os.ReadFile("../../../docs/operator.md")
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	if err := new(settings).table().WriteMarkdown(&table); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(document, table.Bytes()) {
		t.Errorf("docs/operator.md must have the table that `operator --config-docs` prints:\n%s", &table)
	}
}
