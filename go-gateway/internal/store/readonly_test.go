//go:build linux

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/testkit"
)

// readOnly is a folder once more, in a place where nothing can be changed.
func readOnly(t *testing.T, folder string) string {
	t.Helper()
	place := t.TempDir()
	testkit.MountReadOnly(t, folder, place)
	return place
}

// contents are all files of a folder, with their times.
func contents(t *testing.T, folder string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		var text []byte
		if info.Mode().IsRegular() {
			text, err = os.ReadFile(path)
		}
		found[path] = info.Mode().String() + info.ModTime().String() + string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// leftBy makes data folders in each state that one is found in, from one with a key, and returns how many keys they have then.
var leftBy = map[string]func(t *testing.T, options Options) (keys int){
	"a clean end": func(*testing.T, Options) int { return 1 },
	"a kill": func(t *testing.T, options Options) int { // its journal was not taken into the database
		copied := options.Data + ".copy"
		s := open(t, options, Gateway)
		create(t, s, keyOf("bbbbbbbb", "acme"))
		err := errors.Join(os.CopyFS(copied, os.DirFS(options.Data)), s.Close(), os.RemoveAll(options.Data), os.Rename(copied, options.Data))
		if err != nil {
			t.Fatal(err)
		}
		return 2
	},
	"a copy of the database alone": func(t *testing.T, options Options) int {
		for _, name := range []string{databaseLock, gatewayLock, reserveFile} {
			if err := os.Remove(filepath.Join(options.Data, name)); err != nil {
				t.Fatal(err)
			}
		}
		return 1
	},
	"a copy that is open to others": func(t *testing.T, options Options) int {
		if err := errors.Join(os.Chmod(options.Data, 0o755), os.Chmod(filepath.Join(options.Data, databaseFile), 0o644)); err != nil {
			t.Fatal(err)
		}
		return 1
	},
}

// leftFolders runs a test on a data folder in each of these states, which can only be read.
func leftFolders(t *testing.T, test func(t *testing.T, options Options, keys int)) {
	for name, leave := range leftBy {
		t.Run(name, func(t *testing.T) {
			options := embedded(t)
			s := open(t, options, Gateway)
			create(t, s, keyOf("aaaaaaaa", "acme"))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			keys := leave(t, options)
			there := options.Data
			before := contents(t, there)
			options.Data = readOnly(t, there)
			test(t, options, keys)
			if after := contents(t, there); !maps.Equal(before, after) {
				t.Errorf("the folder was changed: %v before, %v after", slices.Collect(maps.Keys(before)), slices.Collect(maps.Keys(after)))
			}
		})
	}
}

func TestAReadOnlyFolderIsRefusedToWhoWrites(t *testing.T) {
	leftFolders(t, func(t *testing.T, options Options, _ int) {
		for _, role := range []Role{Gateway, Command, Migrator} {
			began := time.Now()
			if said := refused(t, options, role); !strings.Contains(said, options.Data) || !strings.Contains(said, "mount it for writing") || strings.Contains(said, "\n") {
				t.Errorf("role %d: %s", role, said)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("role %d was refused after %v", role, took)
			}
		}
		if err := CheckOptions(t.Context(), options); !errors.Is(err, ErrUnwritable) {
			t.Errorf("a check of settings has nothing against it: %v", err)
		}
	})
}

func TestAReadOnlyFolderIsReadCheckedAndBackedUp(t *testing.T) {
	leftFolders(t, func(t *testing.T, options Options, keys int) {
		for _, role := range []Role{Reader, Checker, Inspector} {
			s := open(t, options, role)
			if found := list(t, s, ""); len(found) != keys {
				t.Errorf("role %d sees %d keys, want %d", role, len(found), keys)
			}
			if health, err := s.Check(t.Context()); err != nil || health.Keys != keys {
				t.Errorf("%+v, %v", health, err)
			}
			if err := s.CreateKey(t.Context(), keyOf("cccccccc", "acme"), AuditEntry{}, nil); !errors.Is(err, ErrUnwritable) {
				t.Errorf("role %d writes: %v", role, err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		backup := filepath.Join(t.TempDir(), "backup.db")
		if err := open(t, options, Inspector).Backup(t.Context(), backup); err != nil {
			t.Fatal(err)
		}
		restored := embedded(t)
		if _, err := Restore(t.Context(), restored, backup); err != nil {
			t.Fatal(err)
		}
		if found := list(t, open(t, restored, Reader), ""); len(found) != keys {
			t.Errorf("the backup has %d keys, want %d", len(found), keys)
		}
	})
}

// A reader whose mount is read-only sees what a gateway writes through another one, and does not hold it up.
func TestAReadOnlyMountBesideAGatewayThatWrites(t *testing.T) {
	options := embedded(t)
	gateway := open(t, options, Gateway)
	there := Options{Data: readOnly(t, options.Data)}
	for n := range 3 {
		create(t, gateway, keyOf(fmt.Sprintf("%08d", n), "acme"))
		reader := open(t, there, Inspector)
		if found := list(t, reader, ""); len(found) != 2*n+1 {
			t.Errorf("of %d keys it sees %d", 2*n+1, len(found))
		}
		create(t, gateway, keyOf(fmt.Sprintf("later%03d", n), "acme")) // while it is open
		if _, err := reader.Check(t.Context()); err != nil {
			t.Error(err)
		}
		if err := errors.Join(reader.Backup(t.Context(), filepath.Join(t.TempDir(), "backup.db")), reader.Close()); err != nil {
			t.Error(err)
		}
	}
}

// Where there is no journal, and none can be made, nobody may write while it is read.
func TestWhoWritesWaitsForAReaderThatTakesTheDatabaseAsItIs(t *testing.T) {
	options := embedded(t)
	s := open(t, options, Gateway)
	create(t, s, keyOf("aaaaaaaa", "acme"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	reader := open(t, Options{Data: readOnly(t, options.Data)}, Inspector)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if s, err := Open(ctx, options, Command); err == nil {
		s.Close()
		t.Error("it is written beneath its reader")
	}
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	create(t, open(t, options, Command), keyOf("bbbbbbbb", "acme"))
}

func TestAJournalWithoutItsIndexIsExplained(t *testing.T) {
	options := embedded(t)
	leftBy["a kill"](t, options)
	if err := os.Remove(filepath.Join(options.Data, databaseFile+"-shm")); err != nil {
		t.Fatal(err)
	}
	options.Data = readOnly(t, options.Data)
	if said := refused(t, options, Inspector); !strings.Contains(said, "copy the folder") {
		t.Errorf("got %s", said)
	}
}

// What cannot be written for a time is written again by the same handles once it can.
func TestWhatBecomesReadOnlyHeals(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Gateway)
		toggle := []string{`PRAGMA query_only = 1`, `PRAGMA query_only = 0`}
		if options.Postgres() {
			s.w.SetMaxOpenConns(1)
			toggle = []string{`SET default_transaction_read_only = on`, `SET default_transaction_read_only = off`}
		}
		for n := range 2 {
			if _, err := s.w.Exec(toggle[0]); err != nil {
				t.Fatal(err)
			}
			if err := s.CreateKey(t.Context(), keyOf("aaaaaaaa", "acme"), AuditEntry{}, nil); !errors.Is(err, ErrUnwritable) {
				t.Errorf("got %v", err)
			}
			if found := list(t, s, ""); len(found) != n {
				t.Errorf("%d keys", len(found))
			}
			if _, err := s.w.Exec(toggle[1]); err != nil {
				t.Fatal(err)
			}
			create(t, s, keyOf(fmt.Sprintf("%08d", n), "acme"))
		}
	})
}

func TestAPostgresThatCanOnlyBeReadIsRefusedToWhoWrites(t *testing.T) {
	server := testkit.StartPostgres(t)
	options := Options{DatabaseURL: server.NewDatabase(t)}
	create(t, open(t, options, Command), keyOf("aaaaaaaa", "acme"))
	check := func(remedy string) {
		t.Helper()
		for _, role := range []Role{Gateway, Command, Migrator} {
			began := time.Now()
			if said := refused(t, options, role); !strings.Contains(said, "PostgreSQL at 127.0.0.1, database test1") || !strings.Contains(said, remedy) || strings.Contains(said, "\n") {
				t.Errorf("role %d: %s", role, said)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("role %d was refused after %v", role, took)
			}
		}
		if err := CheckOptions(t.Context(), options); !errors.Is(err, ErrUnwritable) {
			t.Errorf("a check of settings has nothing against it: %v", err)
		}
		if health, err := open(t, options, Inspector).Check(t.Context()); err != nil || health.Keys != 1 {
			t.Errorf("%+v, %v", health, err)
		}
	}
	server.SetReadOnly(t, true)
	check("default_transaction_read_only is on")
	server.SetReadOnly(t, false)
	open(t, options, Gateway)
	server.Stop(t)
	server.StartStandby(t)
	check("name the primary")
	server.Promote(t)
	open(t, options, Gateway)
}
