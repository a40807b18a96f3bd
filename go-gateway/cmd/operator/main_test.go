package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExitStatuses(t *testing.T) {
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	content := `{"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
		"contexts": [{"name": "c", "context": {"cluster": "c"}}]}`
	if err := os.WriteFile(kubeconfig, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	needed := []string{"--namespace", "n", "--release", "r"}
	for _, c := range []struct {
		name      string
		arguments []string
		status    int
		says      string
	}{
		{"help", []string{"-h"}, 0, ""},
		{"the table", []string{"--config-docs"}, 0, ""},
		{"nothing", nil, 64, "operator: --namespace (OPERATOR_NAMESPACE): it is missing\noperator: --release (OPERATOR_RELEASE): it is missing\n"},
		{"no cluster", needed, 64, "--kubeconfig"},
		{"no such file", append([]string{"--kubeconfig", "/nowhere"}, needed...), 64, `--kubeconfig "/nowhere"`},
		{"all is well", append([]string{"--kubeconfig", kubeconfig, "--check-config"}, needed...), 0, ""},
		{"nobody is ready there", []string{"healthcheck", "--health-address", "127.0.0.1:1"}, 1, "refused"},
		{"no address", []string{"healthcheck", "--health-address", "here"}, 64, "--health-address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errors bytes.Buffer
			none := func(string) (string, bool) { return "", false }
			if status := run(t.Context(), c.arguments, none, &out, &errors); status != c.status {
				t.Errorf("status %d: %s", status, &errors)
			}
			if !strings.Contains(errors.String(), c.says) {
				t.Errorf("it says %q, and nothing of %q", &errors, c.says)
			}
		})
	}
}
