package store

import (
	"errors"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/testkit"
)

func inPostgres(t *testing.T) Options { return places["postgres"](t) }

func TestDatabaseURLsAreRefusedWithoutTheirPassword(t *testing.T) {
	for _, url := range []string{
		"hunter2", "mysql://user:hunter2@host/db", "postgres://user:hunter2@host:port/db", "postgres://user:hunter2%@host/db",
		"host=a user=b password=hunter2", "postgres://user:hunter2@host/db?sslmode=maybe", " postgres://user:hunter2@host/db",
		"postgres://user:hun ter2@[::1/db", "postgres://user:hunter2@host/db?connect_timeout=hunter2",
	} {
		_, _, err := parsePostgres(url)
		if err == nil {
			t.Errorf("%q is accepted", url)
		} else if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "ter2") {
			t.Errorf("%q: the password is in: %v", url, err)
		}
		if _, err := Open(t.Context(), Options{DatabaseURL: url}, Gateway); err == nil || strings.Contains(err.Error(), "ter2") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func TestWhatPostgresRefusesHoldsNoPassword(t *testing.T) {
	options := inPostgres(t)
	for name, url := range map[string]string{
		"another password": strings.Replace(options.DatabaseURL, testkit.PostgresPassword, "hunter2", 1),
		"no such database": strings.Replace(options.DatabaseURL, "/test", "/no-test", 1),
		"nobody listens":   "postgres://tester:hunter2@127.0.0.1:1/db",
	} {
		_, err := Open(t.Context(), Options{DatabaseURL: url}, Gateway)
		if err == nil {
			t.Errorf("%s: opened", name)
		} else if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), testkit.PostgresPassword) {
			t.Errorf("%s: the password is in: %v", name, err)
		}
	}
	if place := open(t, options, Gateway).Place(); strings.Contains(place, testkit.PostgresPassword) || !strings.Contains(place, "127.0.0.1") {
		t.Errorf("the place is %s", place)
	}
}

func TestTablesAreInASchemaOfTheirOwn(t *testing.T) {
	s := open(t, inPostgres(t), Gateway)
	if others := count(t, s.r, `SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`); others != 0 {
		t.Errorf("%d tables are in public", others)
	}
	if ours := count(t, s.r, `SELECT count(*) FROM pg_tables WHERE schemaname = 'triptych'`); ours == 0 {
		t.Error("none is in triptych")
	}
}

func TestARoleNeedsNoMoreThanTheSchema(t *testing.T) {
	options, server := inPostgres(t), postgres.Get(t)
	open(t, options, Gateway).Close()
	server.Exec(t, options.DatabaseURL, `DROP ROLE IF EXISTS modest; CREATE ROLE modest LOGIN PASSWORD 'modest'; ALTER SCHEMA triptych OWNER TO modest;
		GRANT ALL ON ALL TABLES IN SCHEMA triptych TO modest`)
	t.Cleanup(func() {
		server.Exec(t, options.DatabaseURL, `REASSIGN OWNED BY modest TO tester; DROP OWNED BY modest; DROP ROLE modest`)
	})
	modest := strings.Replace(options.DatabaseURL, "tester:"+testkit.PostgresPassword, "modest:modest", 1)
	create(t, open(t, Options{DatabaseURL: modest}, Gateway), keyOf("aaaaaaaa", "acme"))
	addMigration(t, `CREATE TABLE later (id TEXT PRIMARY KEY);`)
	if _, _, err := Migrate(t.Context(), Options{DatabaseURL: modest}); err != nil {
		t.Errorf("the owner of the schema: %v", err)
	}
	other := strings.Replace(inPostgres(t).DatabaseURL, "tester:"+testkit.PostgresPassword, "modest:modest", 1)
	if said := refused(t, Options{DatabaseURL: other}, Gateway); !strings.Contains(said, "must own the schema") {
		t.Errorf("a stranger: %s", said)
	}
}

func TestCommitsThatAreNotSyncedAreRefused(t *testing.T) {
	options := inPostgres(t)
	name := options.DatabaseURL[strings.LastIndex(options.DatabaseURL, "/")+1:]
	name, _, _ = strings.Cut(name, "?")
	postgres.Get(t).Exec(t, options.DatabaseURL, `ALTER DATABASE `+name+` SET synchronous_commit = off`)
	if said := refused(t, options, Gateway); !strings.Contains(said, "synchronous_commit") {
		t.Errorf("got %s", said)
	}
}

func TestPostgresIsBackedUpByItsOwnTools(t *testing.T) {
	options := inPostgres(t)
	s := open(t, options, Command)
	if err := s.Backup(t.Context(), "file"); !errors.Is(err, ErrPostgresTools) || !strings.Contains(err.Error(), "pg_dump") {
		t.Errorf("got %v", err)
	}
	if _, err := Restore(t.Context(), options, "file"); !errors.Is(err, ErrPostgresTools) {
		t.Errorf("got %v", err)
	}
	if health, err := s.Check(t.Context()); err != nil || !strings.HasPrefix(health.Database, "PostgreSQL 1") {
		t.Errorf("got %+v, %v", health, err)
	}
}

func TestAStoppedServerIsAnErrorAndAStartedOneIsFound(t *testing.T) {
	server := testkit.StartPostgres(t)
	s := open(t, Options{DatabaseURL: server.NewDatabase(t)}, Gateway)
	create(t, s, keyOf("aaaaaaaa", "acme"))
	server.Stop(t)
	if _, err := s.KeysVersion(t.Context()); err == nil || strings.Contains(err.Error(), testkit.PostgresPassword) {
		t.Errorf("got %v", err)
	}
	if err := s.CreateKey(t.Context(), keyOf("bbbbbbbb", "acme"), AuditEntry{}, nil); err == nil || strings.Contains(err.Error(), testkit.PostgresPassword) {
		t.Errorf("got %v", err)
	}
	server.Start(t)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		keys, err := s.Keys(t.Context(), "")
		if err == nil && len(keys) == 1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %v, %v", keys, err)
		}
	}
}
