package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestKeysCommands(t *testing.T) {
	for name, newSite := range map[string]func(*testing.T) *site{"sqlite": newSite, "postgres": inPostgres} {
		t.Run(name, func(t *testing.T) { checkKeysCommands(t, newSite(t)) })
	}
}

func checkKeysCommands(t *testing.T, site *site) {
	key := site.createKey()
	if !regexp.MustCompile(`^trip_[0-9a-z]{8}_[0-9A-Za-z]{43}$`).MatchString(key) {
		t.Errorf("the key is %q", key)
	}
	id := strings.Split(key, "_")[1]
	list := func(pattern string, arguments ...string) {
		t.Helper()
		listed := site.keys(append([]string{"list"}, arguments...)...)
		if strings.Contains(listed, strings.Split(key, "_")[2]) || !regexp.MustCompile(pattern).MatchString(listed) {
			t.Errorf("listed as %s", listed)
		}
	}
	const day = `20\d\d-\S+`
	list(id + ` +acme +` + day + ` +- +- +-$`)
	rotated := site.keys("rotate", "trip_"+id, "--overlap", "1h")
	list(id + ` +acme +` + day + ` +` + day + ` +- +-\n`)
	list(strings.Split(rotated, "_")[1]+` +acme +`+day+` +- +- +-(\n|$)`, "--tenant", "acme")
	list(`SCOPES$`, "--tenant", "nobody")
	scoped := site.keys("create", "--tenant", "acme", "--scope", "model:b", "--scope", "endpoint:/v1/embeddings", "--scope=model:a", "--scope=class:batch")
	const scopes = ` +endpoint:/v1/embeddings model:a model:b class:batch(\n|$)`
	list(strings.Split(scoped, "_")[1] + ` +acme +` + day + ` +- +-` + scopes)
	scoped = site.keys("rotate", strings.Split(scoped, "_")[1])
	list(strings.Split(scoped, "_")[1] + ` +acme +` + day + ` +- +-` + scopes)
	site.keys("revoke", id)
	if err := os.WriteFile(site.tenants, []byte("plans: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := execute(t, append([]string{"keys", "revoke", id}, site.files()...)...); status != exitOK || !strings.Contains(stderr, "warning") || !strings.Contains(stderr, "tenants.yaml") {
		t.Errorf("beside a broken tenants file: %d %q", status, stderr)
	}
	list(id + ` +acme +` + day + ` +` + day + ` +` + day + ` +-\n`)
}

func TestEachActOnKeysIsInTheAuditLogWithoutTheKey(t *testing.T) {
	site := newSite(t)
	status, key, stderr := execute(t, append([]string{"keys", "create", "--tenant", "acme", "--expires", "24h"}, site.files()...)...)
	id := strings.Split(key, "_")[1]
	if status != exitOK || !regexp.MustCompile(`^\{.*"message":"audit","by":"command line, user \d+","act":"key created","tenant":"acme","key":"`+id+`","expires":"20.*\}\n$`).MatchString(stderr) {
		t.Errorf("%d %s", status, stderr)
	}
	if strings.Contains(stderr, strings.Split(strings.TrimSpace(key), "_")[2]) {
		t.Errorf("the key is in %s", stderr)
	}
}

func TestAKeyIsTakenForItsIDAndNotRepeated(t *testing.T) {
	site := newSite(t)
	key := site.createKey()
	unknown := "trip_00000000_" + strings.Repeat("0", 43)
	for _, slip := range []string{unknown, unknown[:40], key[14:]} {
		status, stdout, stderr := execute(t, append([]string{"keys", "revoke", slip}, site.files()...)...)
		if status != exitFailed || strings.Contains(stdout+stderr, slip) {
			t.Errorf("%q: %d %s%s", slip, status, stdout, stderr)
		}
	}
	site.keys("revoke", key)
}

func TestKeysInitMakesEachTenantsFirstKeyOnce(t *testing.T) {
	site := newSite(t)
	init := append([]string{"keys", "init"}, site.files()...)
	status, stdout, stderr := execute(t, init...)
	if status != exitOK || !regexp.MustCompile(`(?m)\A.*ONCE\nacme +trip_[0-9a-z]{8}_[0-9A-Za-z]{43}\n\z`).MatchString(stdout) {
		t.Fatalf("%d %s%s", status, stdout, stderr)
	}
	id := strings.Split(stdout, "_")[1]
	site.keys("revoke", id)
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
	nowhere := filepath.Join(t.TempDir(), "none")
	site.createKey()
	for _, c := range []struct {
		arguments []string
		status    int
		says      string
	}{
		{append([]string{"keys", "create", "--tenant", "acmee"}, site.files()...), exitUsage, `no tenant "acmee"`},
		{append([]string{"keys", "create"}, site.files()...), exitUsage, "tenant"},
		{[]string{"keys", "create", "--tenant", "a b", "--data", nowhere, "--tenants-file", nowhere}, exitUsage, "a name is"},
		{[]string{"keys", "list", "--data", nowhere}, exitUsage, "none"},
		{[]string{"keys", "revoke"}, exitUsage, "ID"},
		{append([]string{"keys", "revoke", "aaaaaaaa"}, site.files()...), exitFailed, "aaaaaaaa"},
		{append([]string{"keys", "revoke", "not an id"}, site.files()...), exitFailed, "keys list"},
		{[]string{"keys", "rotate"}, exitUsage, "ID"},
		{append([]string{"keys", "rotate", "aaaaaaaa"}, site.files()...), exitFailed, "aaaaaaaa"},
		{append([]string{"keys", "rotate", "aaaaaaaa", "--overlap", "-1s"}, site.files()...), exitUsage, "--overlap: -1s must be from"},
		{append([]string{"keys", "create", "--tenant", "acme", "--expires", "1000000h"}, site.files()...), exitUsage, "--expires"},
		{append([]string{"keys", "create", "--tenant", "acme", "--scope", "models:a"}, site.files()...), exitUsage, `"models:a": it must be as`},
		{append([]string{"keys", "create", "--tenant", "acme", "--scope", "endpoint:/v1/embedding"}, site.files()...), exitUsage, "there is /v1/"},
		{[]string{"keys", "list", "--database-url", "postgres://a:hunter2@b:c/d"}, exitUsage, "must be as postgres://"},
		{[]string{"keys", "list", "--database-url-file", nowhere}, exitUsage, "none"},
		{[]string{"data", "check", "--data", nowhere}, exitUsage, "none"},
		{[]string{"data", "backup"}, exitUsage, "--to"},
		{[]string{"data", "restore"}, exitUsage, "--from"},
		{[]string{"keys", "init", "--data", nowhere, "--tenants-file", nowhere}, exitUsage, "none"},
		{[]string{"keys", "destroy"}, exitUsage, "usage"},
		{[]string{"healthcheck", "extra"}, exitUsage, "extra"},
		{[]string{"config-docs", "--x"}, exitUsage, "-x"},
		{[]string{"serves"}, exitUsage, "usage"},
		{[]string{"keys create"}, exitUsage, "usage"},
		{[]string{"keys create", "--tenant", "acme"}, exitUsage, "usage"},
		{[]string{"keys"}, exitUsage, "usage"},
		{nil, exitUsage, "usage"},
	} {
		if status, stdout, stderr := execute(t, c.arguments...); status != c.status || !strings.Contains(stderr, c.says) || stdout != "" || strings.Contains(stderr, "hunter2") {
			t.Errorf("%q: %d %q %s", c.arguments, status, stdout, stderr)
		}
	}
	if files, err := os.ReadDir(filepath.Dir(nowhere)); err != nil || len(files) != 0 {
		t.Errorf("a refused command left %v, %v", files, err)
	}
}
