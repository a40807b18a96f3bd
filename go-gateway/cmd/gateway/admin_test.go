package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const adminToken = "fedcba9876543210fedcba9876543210"

// adminFlags turn the admin API on.
func (s *site) adminFlags() []string {
	path := filepath.Join(filepath.Dir(s.tenants), "admin-token")
	if err := os.WriteFile(path, []byte(adminToken), 0o600); err != nil {
		s.Fatal(err)
	}
	return []string{"--admin-address", "127.0.0.1:0", "--admin-token-file", path}
}

// ask sends one request to the admin API, and reads its reply into reply.
func ask(t *testing.T, method, url, body string, reply any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+adminToken)
	sent, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer sent.Body.Close()
	text, err := io.ReadAll(sent.Body)
	if err != nil || sent.StatusCode != http.StatusOK || json.Unmarshal(text, reply) != nil {
		t.Fatalf("%s: got %d %s, %v", url, sent.StatusCode, text, err)
	}
}

func TestWhatOneGatewayDoesToKeysCountsOnTheOther(t *testing.T) {
	site := inPostgres(t)
	admin := site.adminFlags()
	first, second := site.serve(admin...), site.serve(admin...)
	at, other := address(t, first.log, "admin"), address(t, second.log, "http")
	eventually(t, "ready", func() bool { return get(other, "/readyz") == http.StatusOK })

	var key struct{ ID, Key string }
	ask(t, http.MethodPost, at+"/admin/v1/keys", `{"tenant":"acme"}`, &key)
	eventually(t, "the new key is good", func() bool { return embed(other, key.Key) == http.StatusOK })
	ask(t, http.MethodPost, at+"/admin/v1/keys/"+key.ID+"/revoke", "", &struct{}{})
	eventually(t, "the revoked key is refused", func() bool { return embed(other, key.Key) == http.StatusUnauthorized })

	var acts struct {
		Data []struct{ Act, By, Key string }
	}
	ask(t, http.MethodGet, address(t, second.log, "admin")+"/admin/v1/audit", "", &acts)
	if len(acts.Data) != 2 || acts.Data[0].Act != "key revoked" || acts.Data[1].Key != key.ID || !strings.HasPrefix(acts.Data[0].By, "admin, 127.0.0.1:") {
		t.Errorf("got %+v", acts)
	}
	secret := strings.Split(key.Key, "_")[2]
	for _, log := range []string{first.log.String(), second.log.String()} {
		if strings.Contains(log, secret) || strings.Contains(log, adminToken) {
			t.Errorf("a secret is in the log:\n%s", log)
		}
	}
	if !strings.Contains(first.log.String(), `"message":"audit","by":"admin, 127.0.0.1:`) {
		t.Errorf("no line tells of the acts:\n%s", first.log)
	}
}

func TestAnAdminAPINeedsAClosedFile(t *testing.T) {
	site := newSite(t)
	flags := site.adminFlags()
	for name, mode := range map[string]os.FileMode{"open": 0o644, "closed": 0o600} {
		if err := os.Chmod(flags[3], mode); err != nil {
			t.Fatal(err)
		}
		status, _, stderr := execute(t, site.serveArguments(append(flags, "--check-config")...)...)
		if name == "open" && (status != exitUsage || !strings.Contains(stderr, "0644")) || name == "closed" && status != exitOK {
			t.Errorf("%s: got %d %s", name, status, stderr)
		}
	}
	if err := os.Remove(flags[3]); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := execute(t, site.serveArguments(flags...)...); status != exitUsage || !strings.Contains(stderr, "admin-token-file") {
		t.Errorf("got %d %s", status, stderr)
	}
}

func TestLimitsExplainRefuses(t *testing.T) {
	site := newSite(t)
	file := site.adminFlags()[3]
	for _, c := range []struct {
		arguments []string
		status    int
		says      string
	}{
		{nil, exitUsage, "--tenant"},
		{[]string{"--tenant", "acme"}, exitUsage, "--admin-address"},
		{[]string{"--tenant", "acme", "--admin-address", "127.0.0.1:1"}, exitUsage, "admin-token-file"},
		{[]string{"--tenant", "acme", "--admin-address", "127.0.0.1:1", "--admin-token-file", file + "x"}, exitUsage, "admin-token-file"},
		{[]string{"--tenant", "acme", "--admin-address", "127.0.0.1:1", "--admin-token-file", file}, exitFailed, "no gateway answers"},
		{[]string{"--tenant", "acme", "--admin-address", strings.TrimPrefix(site.hotpath.Address, "http://"), "--admin-token-file", file}, exitFailed, "no gateway answers"},
	} {
		status, stdout, stderr := execute(t, append([]string{"limits", "explain"}, c.arguments...)...)
		if status != c.status || !strings.Contains(stderr, c.says) || stdout != "" || strings.Contains(stderr, adminToken) {
			t.Errorf("%q: got %d %q %s", c.arguments, status, stdout, stderr)
		}
	}
}
