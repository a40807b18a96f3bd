package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"regexp"
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
	if err := os.WriteFile(site.tenants, []byte("plans: {p: {requests_per_minute: 0}}\ntenants: {}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(site.keys); err != nil {
		t.Fatal(err)
	}
	status, _, stderr := execute(t, append(check, "--request-timeout", "soon", "--http-address", "x")...)
	if status != exitUsage {
		t.Errorf("exit status %d", status)
	}
	for _, part := range []string{"--request-timeout", "--http-address", "keys.json", "requests_per_minute", "tenants must be"} {
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

func TestServeWithoutFilesIsRefused(t *testing.T) {
	t.Chdir(t.TempDir())
	if status, _, stderr := execute(t, "serve"); status != exitUsage || !strings.Contains(stderr, "gateway keys create") {
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

func TestKeysCommands(t *testing.T) {
	site := newSite(t)
	key := site.createKey()
	if !regexp.MustCompile(`^trip_[0-9a-z]{8}_[0-9A-Za-z]{43}$`).MatchString(key) {
		t.Errorf("the key is %q", key)
	}
	id := strings.Split(key, "_")[1]
	list := func() string {
		status, stdout, stderr := execute(t, "keys", "list", "--keys-file", site.keys)
		if status != exitOK || strings.Contains(stdout, strings.Split(key, "_")[2]) {
			t.Errorf("%d %s%s", status, stdout, stderr)
		}
		return stdout
	}
	if listed := list(); !regexp.MustCompile(id + ` +acme +20\d\d-\S+ +-\n`).MatchString(listed) {
		t.Errorf("listed as %s", listed)
	}
	if status, _, stderr := execute(t, "keys", "revoke", id, "--keys-file", site.keys); status != exitOK {
		t.Error(stderr)
	}
	if err := os.WriteFile(site.tenants, []byte("plans: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := execute(t, append([]string{"keys", "revoke", id}, site.files()...)...); status != exitOK || !strings.Contains(stderr, "warning") || !strings.Contains(stderr, "tenants.yaml") {
		t.Errorf("beside a broken tenants file: %d %q", status, stderr)
	}
	if listed := list(); !regexp.MustCompile(id + ` +acme +20\d\d-\S+ +20\d\d-\S+\n`).MatchString(listed) {
		t.Errorf("after revoking, listed as %s", listed)
	}
}

func TestKeysInitMakesEachTenantsFirstKeyOnce(t *testing.T) {
	site := newSite(t)
	init := append([]string{"keys", "init"}, site.files()...)
	status, stdout, stderr := execute(t, init...)
	if status != exitOK || !regexp.MustCompile(`(?m)\A.*ONCE\nacme +trip_[0-9a-z]{8}_[0-9A-Za-z]{43}\n\z`).MatchString(stdout) {
		t.Fatalf("%d %s%s", status, stdout, stderr)
	}
	id := strings.Split(stdout, "_")[1]
	execute(t, "keys", "revoke", id, "--keys-file", site.keys)
	more := "plans: {p: {requests_per_minute: 1000000}}\ntenants: {acme: {plan: p}, newer: {plan: p}}\n"
	if err := os.WriteFile(site.tenants, []byte(more), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stdout, _ := execute(t, init...); strings.Contains(stdout, "acme") || !regexp.MustCompile(`newer +trip_`).MatchString(stdout) {
		t.Errorf("a tenant whose key was revoked gets no other one: %s", stdout)
	}
	if status, stdout, _ := execute(t, init...); status != exitOK || strings.Contains(stdout, "trip_") || !strings.Contains(stdout, "keys create") {
		t.Errorf("%d %s", status, stdout)
	}
}

func TestKeysCommandsRefuse(t *testing.T) {
	site := newSite(t)
	nowhere := filepath.Join(t.TempDir(), "none.json")
	for _, c := range []struct {
		arguments []string
		status    int
		says      string
	}{
		{append([]string{"keys", "create", "--tenant", "acmee"}, site.files()...), exitUsage, `no tenant "acmee"`},
		{append([]string{"keys", "create"}, site.files()...), exitUsage, "tenant"},
		{[]string{"keys", "create", "--tenant", "a b", "--keys-file", nowhere, "--tenants-file", nowhere}, exitFailed, "a name is"},
		{[]string{"keys", "list", "--keys-file", nowhere}, exitFailed, "none.json"},
		{[]string{"keys", "revoke"}, exitUsage, "ID"},
		{[]string{"keys", "revoke", "aaaaaaaa", "--keys-file", nowhere}, exitFailed, "none.json"},
		{[]string{"keys", "init", "--keys-file", nowhere, "--tenants-file", nowhere}, exitUsage, "none.json"},
		{[]string{"keys", "destroy"}, exitUsage, "usage"},
		{[]string{"healthcheck", "extra"}, exitUsage, "extra"},
		{[]string{"config-docs", "--x"}, exitUsage, "-x"},
		{[]string{"serves"}, exitUsage, "usage"},
		{[]string{"keys create"}, exitUsage, "usage"},
		{[]string{"keys create", "--tenant", "acme"}, exitUsage, "usage"},
		{[]string{"keys"}, exitUsage, "usage"},
		{nil, exitUsage, "usage"},
	} {
		if status, stdout, stderr := execute(t, c.arguments...); status != c.status || !strings.Contains(stderr, c.says) || stdout != "" {
			t.Errorf("%q: %d %q %s", c.arguments, status, stdout, stderr)
		}
	}
	if files, err := os.ReadDir(filepath.Dir(nowhere)); err != nil || len(files) != 0 {
		t.Errorf("a refused command left %v, %v", files, err)
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
