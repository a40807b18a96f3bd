//go:build !race

// The race detector wants all of upstream compiled once more, which takes minutes: what is concurrent of ours is in internal.

package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/component"
)

const observe = "../../../deploy/observe/"

func TestOurConfigurationsAreGood(t *testing.T) {
	t.Setenv("COLLECTOR_FORWARD_TO", "127.0.0.1:9")
	for _, arguments := range [][]string{
		{"validate", "--config", observe + "collector.yaml"},
		{"validate", "--config", observe + "collector.yaml", "--config", observe + "collector-forward.yaml"},
	} {
		var stdout, stderr strings.Builder
		if status := run(t.Context(), arguments, &stdout, &stderr); status != exitOK {
			t.Errorf("%v: %d: %s", arguments, status, stderr.String())
		}
	}
}

func TestConfigurationsThatCannotBeAreRefused(t *testing.T) {
	good, err := os.ReadFile(observe + "collector.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{"wait: ${env:COLLECTOR_USAGE_WAIT:-5s}", "wait: 0s"}, {"redact: {}", "redact: {max_value_bytes: 1}"}, {"forward: {}", "forward: {}\n  other: {}"},
		{"redact: {}", `redact: {patterns: ["("]}`}, {"wait:", "weight:"},
	} {
		path := filepath.Join(t.TempDir(), "collector.yaml")
		text := strings.Replace(string(good), change[0], change[1], 1)
		if text == string(good) {
			t.Fatalf("%q is not there", change[0])
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var stdout, stderr strings.Builder
		if status := run(t.Context(), []string{"validate", "--config", path}, &stdout, &stderr); status == exitOK || stderr.Len() == 0 {
			t.Errorf("%s: %d: %s", change[1], status, stderr.String())
		}
	}
}

// All that is linked can be named, and no more: what is not needed is not there to be attacked.
func TestComponentsAreThoseThatWeNeed(t *testing.T) {
	made, err := factories()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, each := range []map[component.Type]bool{keys(made.Receivers), keys(made.Processors), keys(made.Connectors), keys(made.Exporters), keys(made.Extensions)} {
		for name := range each {
			names = append(names, name.String())
		}
	}
	for _, want := range []string{"otlp", "memory_limiter", "redact", "tail_sampling", "batch", "usage", "forward", "file", "otlp_grpc"} {
		found := 0
		for _, name := range names {
			if name == want {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%d components have the name %s", found, want)
		}
	}
	if len(names) != 9 {
		t.Errorf("components are %v", names)
	}
	if !strings.HasPrefix(version(), "v0.") && version() != "unknown" { // a test's own program has no list of modules
		t.Errorf("the version is %s", version())
	}
}

func keys[Factory any](of map[component.Type]Factory) map[component.Type]bool {
	found := map[component.Type]bool{}
	for name := range of {
		found[name] = true
	}
	return found
}

func TestCommandsThatAreWrongAreUsage(t *testing.T) {
	for _, arguments := range [][]string{{"trace"}, {"trace", "id"}, {"trace", "--x", "id", "file"}, {"healthcheck", "x"}, {"healthcheck", "--x"}} {
		var stdout, stderr strings.Builder
		if status := run(t.Context(), arguments, &stdout, &stderr); status != exitUsage || !strings.Contains(stderr.String(), "usage: collector") {
			t.Errorf("%v: %d: %s", arguments, status, stderr.String())
		}
	}
	var stdout, stderr strings.Builder
	if status := run(t.Context(), []string{"--help"}, &stdout, &stderr); status != exitOK || !strings.Contains(stdout.String(), "collector trace REQUEST_ID") {
		t.Errorf("%d: %s%s", status, stdout.String(), stderr.String())
	}
	for _, arguments := range [][]string{nil, {"--nothing"}, {"trace", "id", filepath.Join(t.TempDir(), "gone")}} {
		stderr.Reset()
		if status := run(t.Context(), arguments, &stdout, &stderr); status != exitFailed || stderr.Len() == 0 {
			t.Errorf("%v: %d: %s", arguments, status, stderr.String())
		}
	}
}

func TestHealthcheckOfNobody(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr strings.Builder
	if status := run(t.Context(), []string{"healthcheck", "--address", address}, &stdout, &stderr); status != exitFailed || !strings.Contains(stderr.String(), address) {
		t.Errorf("%d: %s", status, stderr.String())
	}
}
