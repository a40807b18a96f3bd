package main

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// succeed runs a command on the site's store.
func (s *site) succeed(arguments ...string) (stdout, stderr string) {
	s.Helper()
	status, stdout, stderr := execute(s.T, append(arguments, s.store...)...)
	if status != exitOK {
		s.Fatalf("%q: %d %s", arguments, status, stderr)
	}
	return stdout, stderr
}

func TestBackupWhileServingAndRestoreWhileStopped(t *testing.T) {
	site := newSite(t)
	first := site.createKey()
	g := site.serve()
	address(t, g.log, "http") // by then it has the store
	file := filepath.Join(t.TempDir(), "backup.db")
	if _, stderr := site.succeed("data", "backup", "--to", file); !strings.Contains(stderr, `"act":"data backed up"`) {
		t.Errorf("no line of it in the audit log: %s", stderr)
	}
	later := site.createKey()
	restore := append([]string{"data", "restore", "--from", file}, site.store...)
	if status, _, stderr := execute(t, restore...); status != exitUsage || !strings.Contains(stderr, "stop that one first") {
		t.Errorf("beneath a gateway: %d %s", status, stderr)
	}
	g.stop()
	g.exit()
	if status, _, stderr := execute(t, restore...); status != exitOK || !strings.Contains(stderr, `"act":"data restored"`) {
		t.Fatalf("%d %s", status, stderr)
	}
	if stdout, _ := site.succeed("data", "check"); !strings.HasPrefix(stdout, "good: ") || !strings.HasSuffix(stdout, ", 1 keys\n") {
		t.Errorf("got %s", stdout)
	}
	api := address(t, site.serve().log, "http")
	eventually(t, "ready", func() bool { return get(api, "/readyz") == http.StatusOK })
	if one, two := embed(api, first), embed(api, later); one != http.StatusOK || two != http.StatusUnauthorized {
		t.Errorf("after the restore the keys get %d and %d", one, two)
	}
}

func TestMigrate(t *testing.T) {
	for name, newSite := range map[string]func(*testing.T) *site{"sqlite": newSite, "postgres": inPostgres} {
		t.Run(name, func(t *testing.T) {
			site := newSite(t)
			if stdout, stderr := site.succeed("data", "migrate"); !strings.Contains(stdout, "it was 0") || !strings.Contains(stderr, `"act":"data migrated"`) {
				t.Errorf("got %s%s", stdout, stderr)
			}
			g := site.serve() // beside which nothing is to do
			address(t, g.log, "http")
			if stdout, stderr := site.succeed("data", "migrate"); strings.Contains(stdout, "it was 0") || stderr != "" {
				t.Errorf("again: %s%s", stdout, stderr)
			}
		})
	}
}

func TestPostgresHasToolsOfItsOwn(t *testing.T) {
	site := inPostgres(t)
	site.createKey()
	for _, command := range []string{"backup --to f", "restore --from f"} {
		status, _, stderr := execute(t, append(append([]string{"data"}, strings.Fields(command)...), site.store...)...)
		if status != exitUsage || !strings.Contains(stderr, "pg_dump") {
			t.Errorf("%s: %d %s", command, status, stderr)
		}
	}
}

func TestTheURLMayBeInAFile(t *testing.T) {
	site := inPostgres(t)
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte(site.store[1]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	site.store = []string{"--database-url-file", file}
	id := strings.Split(site.createKey(), "_")[1]
	if listed := site.keys("list"); !strings.Contains(listed, id) {
		t.Errorf("listed as %s", listed)
	}
	if _, err := os.Stat("data"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a data folder was made beside PostgreSQL: %v", err)
	}
	if err := os.WriteFile(file, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := execute(t, "keys", "list", "--database-url-file", file); status != exitUsage || !strings.Contains(stderr, "is empty") {
		t.Errorf("%d %s", status, stderr)
	}
}
