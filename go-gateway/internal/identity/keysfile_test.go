package identity

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func newKeysFile(t *testing.T) *KeysFile {
	t.Helper()
	return NewKeysFile(filepath.Join(t.TempDir(), "keys.json"), func() time.Time { return now })
}

func mustCreate(t *testing.T, file *KeysFile, tenant string) Secret {
	t.Helper()
	key, err := file.Create(tenant)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestCreateStoresAHashOnly(t *testing.T) {
	file := newKeysFile(t)
	key := mustCreate(t, file, "acme")
	if !keyShape.MatchString(key.Reveal()) {
		t.Errorf("the key %q has another shape", key.Reveal())
	}
	data, err := os.ReadFile(file.path)
	if err != nil {
		t.Fatal(err)
	}
	secret := key.Reveal()[len("trip_12345678_"):]
	if strings.Contains(string(data), secret) {
		t.Error("the file holds the secret")
	}
	info, err := os.Stat(file.path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	records, err := file.List()
	if err != nil || len(records) != 1 || records[0].Tenant != "acme" || !records[0].Created.Equal(now) || !records[0].matches(key) {
		t.Errorf("got %+v, %v", records, err)
	}
}

// A gateway may read the file through its group, or be its owner while root makes keys.
func TestChangesKeepModeAndOwner(t *testing.T) {
	file := newKeysFile(t)
	id, _ := keyID(mustCreate(t, file, "acme"))
	owner := os.Getuid()
	if owner == 0 {
		owner = 65532 // only root can give a file away
	}
	if err := errors.Join(os.Chown(file.path, owner, -1), os.Chmod(file.path, 0o640)); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, file, "acme")
	checkFile(t, file, 0o640, owner)
	if err := os.Chmod(file.path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := file.Revoke(id); err != nil {
		t.Fatal(err)
	}
	checkFile(t, file, 0o644, owner)
}

func checkFile(t *testing.T, file *KeysFile, mode fs.FileMode, owner int) {
	t.Helper()
	info, err := os.Stat(file.path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Sys().(*syscall.Stat_t).Uid; info.Mode() != mode || int(got) != owner {
		t.Errorf("mode %v of user %d, want %v of %d", info.Mode(), got, mode, owner)
	}
}

func TestKeysDiffer(t *testing.T) {
	file := newKeysFile(t)
	seen := map[Secret]bool{}
	for range 100 {
		key, _ := newKey("acme", now)
		seen[key] = true
	}
	if len(seen) != 100 {
		t.Errorf("100 keys, %d of them different", len(seen))
	}
	a, b := mustCreate(t, file, "acme"), mustCreate(t, file, "acme")
	records, err := file.List()
	if err != nil || len(records) != 2 || !records[0].matches(a) || !records[1].matches(b) || records[0].matches(b) {
		t.Errorf("got %+v, %v", records, err)
	}
}

func TestConcurrentCreatesLoseNothing(t *testing.T) {
	path := newKeysFile(t).path
	const writers = 32
	keys := make([]Secret, writers)
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			file := NewKeysFile(path, time.Now) // as another process would
			key, err := file.Create("acme")
			if err != nil {
				t.Error(err)
			}
			keys[i] = key
		})
	}
	group.Wait()
	records, err := readKeys(path)
	if err != nil || len(records) != writers {
		t.Fatalf("%d of %d keys are stored, %v", len(records), writers, err)
	}
	leftover, err := filepath.Glob(path + ".*")
	if err != nil || len(leftover) != 1 || leftover[0] != path+".lock" {
		t.Errorf("beside the file are %q, %v", leftover, err)
	}
}

func TestRevoke(t *testing.T) {
	file := newKeysFile(t)
	key, other := mustCreate(t, file, "acme"), mustCreate(t, file, "acme")
	id, _ := keyID(key)
	if err := file.Revoke(id); err != nil {
		t.Fatal(err)
	}
	first := now
	defer func() { now = first }()
	now = now.Add(time.Hour)
	if err := file.Revoke(id); err != nil {
		t.Fatal(err)
	}
	records, err := file.List()
	if err != nil || !records[0].Revoked.Equal(first) || records[0].matches(key) || !records[1].matches(other) {
		t.Errorf("got %+v, %v", records, err)
	}
	if err := file.Revoke("nobodys1"); err == nil || !strings.Contains(err.Error(), "nobodys1") {
		t.Errorf("an unknown id: %v", err)
	}
}

func TestCreateRefusesBadNames(t *testing.T) {
	file := newKeysFile(t)
	for _, name := range []string{"", "Acme", "-acme", "a b", "a/b", strings.Repeat("a", 65), "acme\n"} {
		if key, err := file.Create(name); err == nil {
			t.Errorf("%q got the key %q", name, key.Reveal())
		}
	}
}

func TestReadKeysReportsAllFaults(t *testing.T) {
	file := newKeysFile(t)
	good := `"sha256":"` + strings.Repeat("0", 64) + `","created":"2026-01-02T03:04:05Z"`
	content := `{"keys":[{"id":"aaaaaaaa","tenant":"acme",` + good + `},
		{"id":"aaaaaaaa","tenant":"acme",` + good + `},
		{"id":"short","tenant":"acme",` + good + `},
		{"id":"bbbbbbbb","tenant":"Not a name",` + good + `},
		{"id":"cccccccc","tenant":"acme","sha256":"xyz","created":"2026-01-02T03:04:05Z"},
		{"id":"dddddddd","tenant":"acme","sha256":"` + strings.Repeat("0", 64) + `"}]}`
	if err := os.WriteFile(file.path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := readKeys(file.path)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, part := range []string{`"aaaaaaaa" is there twice`, `"short": id`, "Not a name", `"cccccccc": sha256`, `"dddddddd": created`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is missing from:\n%v", part, err)
		}
	}
}

func TestChangeKeepsABrokenFile(t *testing.T) {
	file := newKeysFile(t)
	for _, content := range []string{"", "{", `{"keys":[],"more":1}`, `{"keys":[]} x`} {
		if err := os.WriteFile(file.path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := file.Create("acme"); err == nil {
			t.Errorf("%q was replaced", content)
		}
		if data, err := os.ReadFile(file.path); err != nil || string(data) != content {
			t.Errorf("%q became %q, %v", content, data, err)
		}
	}
}

func TestASymbolicLinkStays(t *testing.T) {
	file := newKeysFile(t)
	mustCreate(t, file, "acme")
	link := filepath.Join(t.TempDir(), "link.json")
	if err := os.Symlink(file.path, link); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, NewKeysFile(link, time.Now), "acme")
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link became %v, %v", info.Mode(), err)
	}
	if records, err := file.List(); err != nil || len(records) != 2 {
		t.Errorf("the file has %d keys, %v", len(records), err)
	}
	if leftover, err := filepath.Glob(link + "?*"); err != nil || len(leftover) != 0 {
		t.Errorf("beside the link are %q, %v: a lock of its own locks nothing", leftover, err)
	}
}
