package store

import (
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func embedded(t *testing.T) Options { return places["sqlite"](t) }

func TestTheDataFolderIsItsOwnersAlone(t *testing.T) {
	umask := syscall.Umask(0)
	defer syscall.Umask(umask)
	options := embedded(t)
	s := open(t, options, Gateway)
	create(t, s, keyOf("aaaaaaaa", "acme"))
	check := func() {
		t.Helper()
		err := filepath.WalkDir(options.Data, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err == nil && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	check()
	if files, err := filepath.Glob(filepath.Join(options.Data, "*")); err != nil || len(files) != 6 {
		t.Errorf("in use there are %v, %v", files, err)
	}
	s.Close()
	if err := errors.Join(os.Chmod(options.Data, 0o777), os.Chmod(filepath.Join(options.Data, databaseFile), 0o666)); err != nil {
		t.Fatal(err)
	}
	open(t, options, Command)
	check()
}

func TestPlantedLinksAreRefused(t *testing.T) {
	for _, name := range []string{databaseFile, databaseFile + "-wal", databaseFile + "-shm", gatewayLock, databaseLock} {
		for kind, plant := range map[string]func(target, path string) error{
			"a link": os.Symlink, "a link to nowhere": func(target, path string) error { return os.Symlink(target+".none", path) },
			"a folder": func(_, path string) error { return os.Mkdir(path, 0o700) },
			"a pipe":   func(_, path string) error { return syscall.Mkfifo(path, 0o600) },
		} {
			options := embedded(t)
			if err := os.Mkdir(options.Data, 0o700); err != nil {
				t.Fatal(err)
			}
			target := filepath.Join(t.TempDir(), "precious")
			if err := errors.Join(os.WriteFile(target, nil, 0o644), plant(target, filepath.Join(options.Data, name))); err != nil {
				t.Fatal(err)
			}
			said := refused(t, options, Gateway)
			if !strings.Contains(said, name) {
				t.Errorf("%s as %s: %s", name, kind, said)
			}
			if info, err := os.Stat(target); err != nil || info.Size() != 0 || info.Mode().Perm() != 0o644 {
				t.Errorf("%s as %s: what it leads to became %v, %v", name, kind, info, err)
			}
			if _, err := os.Stat(target + ".none"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s as %s: made what it leads to", name, kind)
			}
		}
	}
}

func TestWhatIsNoFolderIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{file, filepath.Join(file, "below")} {
		refused(t, Options{Data: folder}, Gateway)
	}
}

func TestAFolderServesOneGateway(t *testing.T) {
	options := embedded(t)
	first := open(t, options, Gateway)
	if said := refused(t, options, Gateway); !strings.Contains(said, "stop that one first") || !strings.Contains(said, "--database-url") {
		t.Errorf("got %s", said)
	}
	create(t, open(t, options, Command), keyOf("aaaaaaaa", "acme")) // commands work beside it
	if keys := list(t, first, ""); len(keys) != 1 {
		t.Errorf("the gateway sees %+v", keys)
	}
	first.Close()
	open(t, options, Gateway)
}

func TestAnOldSchemaIsNotChangedBeneathAGateway(t *testing.T) {
	options := embedded(t)
	gateway := open(t, options, Gateway)
	addMigration(t, `CREATE TABLE later (id TEXT PRIMARY KEY);`)
	if said := refused(t, options, Migrator); !strings.Contains(said, "stop that one first") {
		t.Errorf("got %s", said)
	}
	gateway.Close()
	if _, _, err := Migrate(t.Context(), options); err != nil {
		t.Error(err)
	}
}

func TestAPathMayHoldAnything(t *testing.T) {
	options := Options{Data: filepath.Join(t.TempDir(), "a b?c=d&e%41#f;ü")}
	create(t, open(t, options, Command), keyOf("aaaaaaaa", "acme"))
	if _, err := os.Stat(filepath.Join(options.Data, databaseFile)); err != nil {
		t.Error(err)
	}
	t.Chdir(filepath.Dir(options.Data))
	if keys := list(t, open(t, Options{Data: filepath.Base(options.Data)}, Reader), ""); len(keys) != 1 {
		t.Errorf("got %+v", keys)
	}
}

func TestCommitsAreSynced(t *testing.T) {
	s := open(t, embedded(t), Command)
	for query, want := range map[string]int{`PRAGMA synchronous`: 2, `PRAGMA foreign_keys`: 1, `PRAGMA busy_timeout`: 10000} {
		if got := count(t, s.w, query); got != want {
			t.Errorf("%s is %d, want %d", query, got, want)
		}
	}
	if _, err := s.r.Exec(`DELETE FROM api_key`); err == nil {
		t.Error("a reader wrote")
	}
}

// SQLite waits for nobody when a database is to get a journal that is written ahead: whoever does that must be alone.
func TestWhoeverMakesADatabaseWaitsForOthers(t *testing.T) {
	options := embedded(t)
	if err := prepareFolder(options.Data, true); err != nil {
		t.Fatal(err)
	}
	lock, err := waitLock(t.Context(), options.Data, databaseLock, syscall.LOCK_SH)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", sqliteSource(filepath.Join(options.Data, databaseFile)))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	go func() {
		s, err := Open(t.Context(), options, Command)
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if err := errors.Join(tx.Rollback(), lock.Close()); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Error(err)
	}
	checkJournal(t, open(t, options, Reader))
}

// checkJournal wants one that is written ahead: then readers do not wait for writers.
func checkJournal(t *testing.T, s *Store) {
	t.Helper()
	var mode string
	if err := s.r.QueryRow(`PRAGMA journal_mode`).Scan(&mode); err != nil || mode != "wal" {
		t.Errorf("the journal is %q, %v", mode, err)
	}
}
