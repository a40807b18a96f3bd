package main

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"triptych.dev/gateway/internal/testkit"
)

func TestCheckConfig(t *testing.T) {
	site := newSite(t)
	site.createKey()
	check := append([]string{"serve", "--check-config"}, site.files()...)
	if status, stdout, stderr := execute(t, check...); status != exitOK || stdout+stderr != "" {
		t.Errorf("a good one: %d %s%s", status, stdout, stderr)
	}
	if err := os.WriteFile(site.tenants, []byte("plans: {p: {requests_per_minute: 0}}\ntenants:"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(site.data(), "gateway.db"), []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	status, _, stderr := execute(t, append(check, "--request-timeout", "soon", "--http-address", "x")...)
	if status != exitUsage {
		t.Errorf("exit status %d", status)
	}
	for _, part := range []string{"--request-timeout", "--http-address", "gateway.db", "requests_per_minute", "tenants must be"} {
		if !strings.Contains(stderr, part) {
			t.Errorf("%q is missing from:\n%s", part, stderr)
		}
	}
	for line := range strings.Lines(stderr) {
		if !strings.HasPrefix(line, "gateway: ") {
			t.Errorf("a line without its origin: %s", line)
		}
	}
}

func TestCheckConfigMakesNothing(t *testing.T) {
	site := newSite(t)
	if status, _, stderr := execute(t, append([]string{"serve", "--check-config"}, site.files()...)...); status != exitOK {
		t.Errorf("a store that is still to be made: %d %s", status, stderr)
	}
	if _, err := os.Stat(site.data()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is made: %v", err)
	}
}

func TestServeWithoutTenantsIsRefused(t *testing.T) {
	t.Chdir(t.TempDir())
	if status, _, stderr := execute(t, "serve"); status != exitUsage || !strings.Contains(stderr, "tenants.yaml") {
		t.Errorf("%d %s", status, stderr)
	}
}

func TestServeOnATakenPortFails(t *testing.T) {
	site := newSite(t)
	site.createKey()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, flag := range []string{"--http-address", "--metrics-address"} {
		if status, _, stderr := execute(t, site.serveArguments(flag, taken.Addr().String())...); status != exitFailed || !strings.Contains(stderr, "in use") {
			t.Errorf("%s: %d %s", flag, status, stderr)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, arguments := range [][]string{{"--help"}, {"help"}, {"serve", "-help"}, {"keys", "create", "--help"}} {
		if status, stdout, stderr := execute(t, arguments...); status != exitOK || !strings.HasPrefix(stdout, "usage: gateway") || stderr != "" {
			t.Errorf("%q: %d %q %q", arguments, status, stdout, stderr)
		}
	}
}

func TestConfigDocs(t *testing.T) {
	if status, stdout, _ := execute(t, "config-docs"); status != exitOK || !strings.Contains(stdout, "`GATEWAY_HTTP_ADDRESS`") {
		t.Errorf("%d %s", status, stdout)
	}
}

func TestMainStaysSmall(t *testing.T) {
	if lines := bytes.Count(testkit.RepoFile(t, "go-gateway/cmd/gateway/main.go"), []byte("\n")); lines > 50 {
		t.Errorf("main.go has %d lines", lines)
	}
}
