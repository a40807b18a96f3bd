package identity

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"triptych.dev/gateway/internal/fault"
)

const token = "0123456789abcdef0123456789abcdef"

func tokenFile(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheAdminTokensFile(t *testing.T) {
	key, _ := newKey("acme", now, 0, "")
	for name, c := range map[string]struct {
		content string
		mode    os.FileMode
		says    string // empty: it is good
	}{
		"its owner's":            {token + "\n", 0o600, ""},
		"read by its group":      {token, 0o440, ""},
		"base64":                 {"+/" + token + "==", 0o400, ""},
		"read by others":         {token, 0o604, "has mode 0604"},
		"written by its group":   {token, 0o620, "chmod 600"},
		"one letter too short":   {token[1:], 0o600, "32 to 1024 letters"},
		"empty":                  {"", 0o600, "32 to 1024 letters"},
		"too long":               {strings.Repeat(token, 33), 0o600, "32 to 1024 letters"},
		"two words":              {token + " " + token, 0o600, "one word"},
		"an API key":             {key.Reveal(), 0o600, "API key of a tenant"},
		"no text":                {token + "\x00", 0o600, "letters"},
		"letters of no keyboard": {strings.Repeat("é", 32), 0o600, "letters"},
	} {
		got, err := ReadAdminToken(tokenFile(t, c.content, c.mode))
		switch {
		case c.says == "" && (err != nil || got.Reveal() != strings.TrimSpace(c.content)):
			t.Errorf("%s: got %q, %v", name, got.Reveal(), err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || len(c.content) > 0 && strings.Contains(err.Error(), c.content[:8])):
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, path := range []string{filepath.Join(t.TempDir(), "none"), t.TempDir()} {
		if _, err := ReadAdminToken(path); err == nil || !strings.Contains(err.Error(), "admin-token-file") {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

func TestTheAdminTokenIsReadAgain(t *testing.T) {
	path := tokenFile(t, token, 0o600)
	admin, err := OpenAdminToken(t.Context(), path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	check := func(authorization string, want fault.Reason) {
		t.Helper()
		got := fault.Reason("")
		if err := admin.Authenticate(authorization); err != nil {
			got = fault.Of(err).Reason
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", authorization, got, want)
		}
	}
	check("Bearer "+token, "")
	check("bearer  "+token, "")
	check("", fault.MissingAPIKey)
	check("Basic "+token, fault.MissingAPIKey)
	check("Bearer", fault.InvalidAPIKey)
	check("Bearer "+token[1:], fault.InvalidAPIKey)
	check("Bearer "+token+"0", fault.InvalidAPIKey)

	other := strings.Repeat("z", 40)
	if err := os.WriteFile(path, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	admin.file.Refresh(t.Context(), now)
	check("Bearer "+other, "")
	check("Bearer "+token, fault.InvalidAPIKey)

	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	admin.file.Refresh(t.Context(), now)
	check("Bearer "+other, "")
	check("Bearer short", fault.InvalidAPIKey)
}
