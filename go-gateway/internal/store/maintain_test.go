package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func backUp(t *testing.T, s *Store) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "backup.db")
	if err := s.Backup(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestBackupAndRestore(t *testing.T) {
	options := embedded(t)
	gateway := open(t, options, Gateway)
	create(t, gateway, keyOf("aaaaaaaa", "acme"))
	reader := open(t, options, Reader)
	file := backUp(t, reader) // while the gateway runs
	reader.Close()
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	create(t, gateway, keyOf("bbbbbbbb", "acme"))
	if _, err := Restore(t.Context(), options, file); err == nil || !strings.Contains(err.Error(), "stop that one first") {
		t.Errorf("beneath a gateway: %v", err)
	}
	gateway.Close()
	if schema, err := Restore(t.Context(), options, file); err != nil || schema != newestSchema {
		t.Fatalf("schema %d, %v", schema, err)
	}
	s := open(t, options, Reader)
	checkJournal(t, s)
	if keys := list(t, s, ""); len(keys) != 1 || keys[0].ID != "aaaaaaaa" {
		t.Errorf("got %+v", keys)
	}
	if health, err := s.Check(t.Context()); err != nil || health.Keys != 1 || health.Schema != newestSchema || !strings.HasPrefix(health.Database, "SQLite 3.") {
		t.Errorf("got %+v, %v", health, err)
	}
	fresh := embedded(t) // on another machine
	if _, err := Restore(t.Context(), fresh, file); err != nil {
		t.Error(err)
	}
	if keys := list(t, open(t, fresh, Gateway), ""); len(keys) != 1 {
		t.Errorf("got %+v", keys)
	}
}

// The journal of a gateway that was killed belongs to the database that is replaced.
func TestRestoreAfterACrashTakesNothingOfTheOldJournal(t *testing.T) {
	options := embedded(t)
	s := open(t, options, Command)
	file := backUp(t, s)
	create(t, s, keyOf("aaaaaaaa", "acme"))
	journal, err := os.ReadFile(filepath.Join(options.Data, databaseFile+"-wal"))
	if err != nil || len(journal) == 0 {
		t.Fatalf("no journal, %v", err)
	}
	s.Close()
	for _, damage := range []func(){func() {}, func() { // and where the old database is beyond use
		if err := os.WriteFile(filepath.Join(options.Data, databaseFile), bytes.Repeat([]byte("x"), 8192), 0o600); err != nil {
			t.Fatal(err)
		}
	}} {
		damage()
		if err := os.WriteFile(filepath.Join(options.Data, databaseFile+"-wal"), journal, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Restore(t.Context(), options, file); err != nil {
			t.Fatal(err)
		}
		restored := open(t, options, Reader)
		if _, err := restored.Check(t.Context()); err != nil || len(list(t, restored, "")) != 0 {
			t.Errorf("got %+v, %v", list(t, restored, ""), err)
		}
		restored.Close()
	}
}

func TestRestoreRefusesWhatIsNoGoodBackup(t *testing.T) {
	options := embedded(t)
	s := open(t, options, Command)
	create(t, s, keyOf("aaaaaaaa", "acme"))
	good, err := os.ReadFile(backUp(t, s))
	if err != nil {
		t.Fatal(err)
	}
	execute(t, s, `INSERT INTO schema_version VALUES (99, 0)`)
	newer, err := os.ReadFile(backUp(t, s))
	if err != nil {
		t.Fatal(err)
	}
	execute(t, s, `DELETE FROM schema_version WHERE version = 99`)
	other := open(t, embedded(t), Command)
	execute(t, other, `DROP TABLE schema_version`)
	foreign, err := os.ReadFile(backUp(t, other))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	damaged := bytes.Clone(good)
	for i := len(damaged) / 2; i < len(damaged)-100; i++ {
		damaged[i] ^= 0x5a
	}
	for name, c := range map[string]struct {
		content []byte
		says    string
	}{
		"cut":     {good[:len(good)-4096], "nothing was restored"},
		"damaged": {damaged, "nothing was restored"},
		"text":    {[]byte(strings.Repeat("no database ", 100)), "nothing was restored"},
		"empty":   {nil, "no backup"},
		"newer":   {newer, "version 99"},
		"foreign": {foreign, "no backup"},
	} {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Restore(t.Context(), options, file); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Restore(t.Context(), options, filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("restored nothing")
	}
	s = open(t, options, Gateway)
	if keys := list(t, s, ""); len(keys) != 1 {
		t.Errorf("a refused backup left %+v", keys)
	}
	if left, err := filepath.Glob(filepath.Join(options.Data, "*restored*")); err != nil || len(left) != 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

func TestABackupReplacesNothing(t *testing.T) {
	s := open(t, embedded(t), Command)
	file := filepath.Join(t.TempDir(), "file")
	if err := errors.Join(os.WriteFile(file, []byte("precious"), 0o600), os.Symlink(file, file+".partial"), os.Symlink(file+".none", file+".link")); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{file, file + ".link"} {
		if err := s.Backup(t.Context(), to); err == nil || !strings.Contains(err.Error(), "exists already") {
			t.Errorf("got %v", err)
		}
	}
	if err := os.Rename(file, file+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(t.Context(), file); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("got %v", err)
	}
	if content, err := os.ReadFile(file + ".moved"); err != nil || string(content) != "precious" {
		t.Errorf("it became %q, %v", content, err)
	}
}

func TestCheckFindsDamage(t *testing.T) {
	options := embedded(t)
	s := open(t, options, Command)
	for i := range 200 {
		create(t, s, keyOf(strings.Repeat(string(rune('a'+i%26)), 6)+string(rune('a'+i/26))+"x", "acme"))
	}
	s.Close()
	path := filepath.Join(options.Data, databaseFile)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(content) - 3*4096; i < len(content); i++ {
		content[i] ^= 0x5a
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := open(t, options, Reader)
	if _, err := damaged.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("got %v", err)
	}
}
