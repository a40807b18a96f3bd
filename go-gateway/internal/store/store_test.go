package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"triptych.dev/gateway/internal/testkit"
)

var postgres testkit.SharedPostgres

func TestMain(m *testing.M) {
	if os.Getenv("TEST_RUN_AS_WORKER") != "" {
		AsWorker()
		return
	}
	status := m.Run()
	postgres.Close()
	os.Exit(status)
}

// places make an empty store's options, on each database.
var places = map[string]func(t testing.TB) Options{
	"sqlite":   func(t testing.TB) Options { return Options{Data: filepath.Join(t.TempDir(), "data")} },
	"postgres": func(t testing.TB) Options { return Options{DatabaseURL: postgres.Get(t).NewDatabase(t)} },
}

// everywhere runs a test on each database.
func everywhere(t *testing.T, test func(t *testing.T, options Options)) {
	for _, name := range slices.Sorted(maps.Keys(places)) {
		t.Run(name, func(t *testing.T) { test(t, places[name](t)) })
	}
}

func open(t *testing.T, options Options, role Role) *Store {
	t.Helper()
	s, err := Open(t.Context(), options, role)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// refused opens a store and returns the refusal, which must be one of the settings or the place.
func refused(t *testing.T, options Options, role Role) string {
	t.Helper()
	s, err := Open(t.Context(), options, role)
	if err == nil {
		s.Close()
		t.Fatal("opened")
	}
	if _, ours := errors.AsType[ConfigError](err); !ours {
		t.Errorf("got %v, which is no fault of settings", err)
	}
	return err.Error()
}

// A driver that bound arguments in the order in which they appear would be silently wrong.
func TestArgumentsAreBoundByNumber(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		var second, first string
		if err := open(t, options, Command).r.QueryRow(`SELECT CAST($2 AS TEXT), CAST($1 AS TEXT)`, "1", "2").Scan(&second, &first); err != nil {
			t.Fatal(err)
		}
		if second != "2" || first != "1" {
			t.Errorf("got %s, %s", second, first)
		}
	})
}

func TestAReaderMakesNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		if said := refused(t, options, Reader); !strings.Contains(said, "gateway keys create") {
			t.Errorf("no remedy in: %s", said)
		}
		if err := CheckOptions(t.Context(), options); err != nil {
			t.Errorf("a store that is still to be made: %v", err)
		}
		if options.Data != "" {
			if _, err := os.Stat(options.Data); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the folder was made: %v", err)
			}
		}
	})
}

func TestManyProcessesMakeTheStoreAtOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() { // each with handles of its own, as a process has
				s, err := Open(t.Context(), options, Command)
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Close()
				if err := s.CreateKey(t.Context(), Key{ID: fmt.Sprintf("key%05d", i), Tenant: "acme", Created: time.Now()}, AuditEntry{}, nil); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		s := open(t, options, Reader)
		if keys, err := s.Keys(t.Context(), ""); err != nil || len(keys) != 8 {
			t.Errorf("%d of 8 keys, %v", len(keys), err)
		}
		if got := count(t, s.r, `SELECT count(*) FROM schema_version`); got != newestSchema {
			t.Errorf("%d versions were applied, of %d", got, newestSchema)
		}
		if got, err := s.KeysVersion(t.Context()); err != nil || got != 8 {
			t.Errorf("8 changes count as %d, %v", got, err)
		}
	})
}

func count(t *testing.T, db *sql.DB, query string, arguments ...any) (n int) {
	t.Helper()
	if err := db.QueryRow(query, arguments...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func execute(t *testing.T, s *Store, statement string, args ...any) {
	t.Helper()
	if _, err := s.w.Exec(statement, args...); err != nil {
		t.Fatal(err)
	}
}

func TestANewerSchemaIsRefused(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s, err := Open(t.Context(), options, Command)
		if err != nil {
			t.Fatal(err)
		}
		execute(t, s, `INSERT INTO schema_version VALUES (99, 0)`)
		s.Close()
		for _, role := range []Role{Reader, Checker, Command, Gateway, Migrator} {
			if said := refused(t, options, role); !strings.Contains(said, "version 99") || !strings.Contains(said, "newer gateway") {
				t.Errorf("got %s", said)
			}
		}
	})
}

func TestAnOlderSchemaIsMigratedByWhoeverMay(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		if err := s.CreateKey(t.Context(), Key{ID: "aaaaaaaa", Tenant: "acme", Created: time.Now()}, AuditEntry{}, nil); err != nil {
			t.Fatal(err)
		}
		s.Close()
		addMigration(t, `CREATE TABLE later (id TEXT COLLATE "C" PRIMARY KEY);`)
		for _, role := range []Role{Reader, Command} {
			if said := refused(t, options, role); !strings.Contains(said, "gateway data migrate") {
				t.Errorf("got %s", said)
			}
		}
		if err := CheckOptions(t.Context(), options); err != nil {
			t.Errorf("a gateway would migrate it: %v", err)
		}
		if from, to, err := Migrate(t.Context(), options); err != nil || from != newestSchema-1 || to != newestSchema {
			t.Errorf("from %d to %d, %v", from, to, err)
		}
		if from, to, err := Migrate(t.Context(), options); err != nil || from != to {
			t.Errorf("again: from %d to %d, %v", from, to, err)
		}
		s = open(t, options, Gateway)
		if keys, err := s.Keys(t.Context(), ""); err != nil || len(keys) != 1 || count(t, s.r, `SELECT count(*) FROM later`) != 0 {
			t.Errorf("got %v, %v", keys, err)
		}
	})
}

func TestAMigrationThatFailsChangesNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		open(t, options, Command).Close()
		addMigration(t, `CREATE TABLE later (id TEXT PRIMARY KEY); INSERT INTO nowhere VALUES (1);`)
		if _, _, err := Migrate(t.Context(), options); err == nil || !strings.Contains(err.Error(), "9999_test.sql") {
			t.Errorf("got %v", err)
		}
		s := open(t, options, Checker)
		if got, err := s.schema(t.Context()); err != nil || got != newestSchema-1 {
			t.Errorf("the schema is %d, %v", got, err)
		}
		if _, err := s.r.Query(`SELECT * FROM later`); err == nil {
			t.Error("half of it was done")
		}
	})
}

// addMigration lets the program know one more, for the time of a test.
func addMigration(t *testing.T, statements string) {
	t.Helper()
	files, version, read := migrationFiles, newestSchema, readMigration
	migrationFiles, newestSchema = append(slices.Clone(files), "9999_test.sql"), version+1
	readMigration = func(name string) ([]byte, error) {
		if name == "9999_test.sql" {
			return []byte(statements), nil
		}
		return read(name)
	}
	t.Cleanup(func() { migrationFiles, newestSchema, readMigration = files, version, read })
}

func TestMigrationsAreNumbered(t *testing.T) {
	for i, name := range migrationFiles {
		if want := fmt.Sprintf("migrations/%04d_", i+1); !strings.HasPrefix(name, want) {
			t.Errorf("%s must begin with %s", name, want)
		}
	}
}

// The driver works with one version of its C library alone.
func TestTheCLibraryIsTheOneThatSQLiteWants(t *testing.T) {
	ours := string(testkit.RepoFile(t, "go-gateway/go.mod"))
	wanted := wantedBySQLite(t)
	if !strings.Contains(ours, wanted) {
		t.Errorf("go.mod must require %q, as modernc.org/sqlite does", strings.TrimSpace(wanted))
	}
}

func TestAStoppedTransactionChangesNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		ctx, cancel := context.WithCancel(t.Context())
		err := s.changeKeys(ctx, func(tx *sql.Tx) error {
			cancel()
			return insertKey(t.Context(), tx, Key{ID: "aaaaaaaa", Tenant: "acme", Created: time.Now()}, AuditEntry{})
		})
		if err == nil {
			t.Error("committed")
		}
		if keys, err := s.Keys(t.Context(), ""); err != nil || !reflect.DeepEqual(keys, []Key(nil)) {
			t.Errorf("got %v, %v", keys, err)
		}
	})
}
