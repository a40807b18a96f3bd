package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func tryCopy(t *testing.T, from Options, to string) (Copied, error) {
	t.Helper()
	return Copy(t.Context(), from, CopyOptions{To: to, Check: func(*Store) error { return nil }})
}

// copyRefused copies, which must be refused, and returns why.
func copyRefused(t *testing.T, from Options, to string) string {
	t.Helper()
	_, err := tryCopy(t, from, to)
	if _, ours := errors.AsType[ConfigError](err); !ours {
		t.Fatalf("%v is no fault of settings", err)
	}
	return err.Error()
}

// fillTables puts some rows into each table of a data folder's database, whatever it has.
func fillTables(t *testing.T, s *Store) {
	t.Helper()
	tables, err := s.tables(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		for row := range 3 {
			var values []any
			for i, column := range table.columns {
				kind, notNull := columnOf(t, s, table.name, column)
				switch {
				case row == 1 && !notNull:
					values = append(values, nil)
				case kind == "BIGINT":
					values = append(values, int64(row-1)*(1<<60)+int64(i))
				case kind == "TEXT" && row == 2 && i > 0:
					values = append(values, "")
				case kind == "TEXT":
					values = append(values, fmt.Sprintf("%d \"é\" 漢\t\\N %s", row, column))
				default:
					t.Fatalf("%s.%s is of kind %s, which is none of both databases", table.name, column, kind)
				}
			}
			marks := make([]string, len(values))
			for i := range marks {
				marks[i] = fmt.Sprintf("$%d", i+1)
			}
			execute(t, s, `INSERT INTO `+table.quoted()+` VALUES (`+strings.Join(marks, ", ")+`)`, values...)
		}
	}
}

func columnOf(t *testing.T, s *Store, table, column string) (kind string, notNull bool) {
	t.Helper()
	err := s.r.QueryRow(`SELECT type, "notnull" = 1 OR pk > 0 FROM pragma_table_info($1) WHERE name = $2`, table, column).Scan(&kind, &notNull)
	if err != nil {
		t.Fatal(err)
	}
	return kind, notNull
}

// contentOf returns the rows of all tables but that of versions, by other code than what copies.
func contentOf(t *testing.T, s *Store, tables []string) map[string][]string {
	t.Helper()
	content := map[string][]string{}
	for _, table := range tables {
		rows, err := s.r.Query(`SELECT * FROM ` + table)
		if err != nil {
			t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			values, into := make([]any, len(columns)), make([]any, len(columns))
			for i := range into {
				into[i] = &values[i]
			}
			if err := rows.Scan(into...); err != nil {
				t.Fatal(err)
			}
			named := map[string]any{}
			for i, column := range columns {
				named[column] = values[i]
			}
			content[table] = append(content[table], fmt.Sprintf("%#v", named))
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
		slices.Sort(content[table])
	}
	return content
}

// tablesThere are the tables of PostgreSQL's schema, or of SQLite's database, as the database itself lists them.
func tablesThere(t *testing.T, s *Store) []string {
	t.Helper()
	list := `SELECT tablename FROM pg_tables WHERE schemaname = 'triptych' ORDER BY tablename COLLATE "C"`
	if s.dialect.name == sqliteDialect.name {
		list = `SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name`
	}
	names, err := s.lines(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestEveryTableIsCopied: also one that the next migration makes.
func TestEveryTableIsCopied(t *testing.T) {
	to := inPostgres(t) // first, so that what is skipped without it is so at once
	from := embedded(t)
	source := open(t, from, Command)
	fillTables(t, source)
	tables := tablesThere(t, source)
	want := contentOf(t, source, tables)
	if err := source.Close(); err != nil {
		t.Fatal(err)
	}
	copied, err := tryCopy(t, from, to.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	target := open(t, to, Reader)
	if there := tablesThere(t, target); !reflect.DeepEqual(there, tables) {
		t.Errorf("the tables there are %v, here %v", there, tables)
	}
	got := contentOf(t, target, tables)
	for _, name := range tables {
		if name == versionTable {
			if len(got[name]) != newestSchema || len(want[name]) != newestSchema {
				t.Errorf("versions: %v", got[name])
			}
			continue
		}
		if len(want[name]) < 3 || !reflect.DeepEqual(got[name], want[name]) {
			t.Errorf("%s is\n%s\nand was\n%s", name, strings.Join(got[name], "\n"), strings.Join(want[name], "\n"))
		}
		at := slices.IndexFunc(copied.Tables, func(table CopiedTable) bool { return table.Name == name })
		if at < 0 || copied.Tables[at].Rows != int64(len(want[name])) || len(copied.Tables[at].Hash) != 64 {
			t.Errorf("of %s is told: %+v", name, copied.Tables)
		}
	}
	if len(copied.Tables) != len(tables)-1 || copied.Before || !strings.Contains(copied.Place, "127.0.0.1") {
		t.Errorf("told: %+v", copied)
	}
}

func TestOnlyNamedTablesHaveRowsFromTheBeginning(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		for name, rows := range contentOf(t, s, tablesThere(t, s)) {
			if len(rows) > 0 && name != versionTable && !slices.Contains(seededTables, name) {
				t.Errorf("%s has %v: a copy would take it for used", name, rows)
			}
		}
	})
}

// TestACopiedStoreIsNotUsed by mistake, and can be all the same.
func TestACopiedStoreIsNotUsed(t *testing.T) {
	to, from := inPostgres(t), embedded(t)
	source := open(t, from, Command)
	if err := source.CreateKey(t.Context(), keyOf("a", "acme"), AuditEntry{}, nil); err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "backup")
	if err := errors.Join(source.Backup(t.Context(), backup), source.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := tryCopy(t, from, to.DatabaseURL); err != nil {
		t.Fatal(err)
	}
	marker := filepath.Join(from.Data, copiedFile)
	for _, role := range []Role{Reader, Checker, Command, Gateway, Migrator} {
		said := refused(t, from, role)
		if !strings.Contains(said, "PostgreSQL at 127.0.0.1, database test") || !strings.Contains(said, marker) {
			t.Errorf("role %d: %s", role, said)
		}
	}
	if said := copyRefused(t, from, inPostgres(t).DatabaseURL); !strings.Contains(said, "was copied to") {
		t.Errorf("copied again: %s", said)
	}
	if _, err := Restore(t.Context(), from, backup); err == nil || !strings.Contains(err.Error(), "was copied to") {
		t.Errorf("restored: %v", err)
	}
	inspected := open(t, from, Inspector)
	if health, err := inspected.Check(t.Context()); err != nil || health.Keys != 1 {
		t.Errorf("checked: %+v, %v", health, err)
	}
	if err := errors.Join(inspected.Close(), os.Remove(marker)); err != nil {
		t.Fatal(err)
	}
	if keys := list(t, open(t, from, Gateway), ""); len(keys) != 1 {
		t.Errorf("%d keys", len(keys))
	}
}

// TestACopyThatWasNotMarkedIsFinished as after a crash between the two.
func TestACopyThatWasNotMarkedIsFinished(t *testing.T) {
	to, from := inPostgres(t), embedded(t)
	source := open(t, from, Command)
	fillTables(t, source)
	if err := source.Close(); err != nil {
		t.Fatal(err)
	}
	first, err := tryCopy(t, from, to.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	marker := filepath.Join(from.Data, copiedFile)
	if err := os.Remove(marker); err != nil {
		t.Fatal(err)
	}
	again, err := tryCopy(t, from, to.DatabaseURL)
	if err != nil || !again.Before || !reflect.DeepEqual(again.Tables, first.Tables) {
		t.Errorf("%+v, %v", again, err)
	}
	if err := os.Remove(marker); err != nil {
		t.Fatal(err)
	}
	execute(t, open(t, to, Command), `UPDATE api_key SET scopes = 'endpoint:/v1/files' WHERE scopes = ''`)
	if said := copyRefused(t, from, to.DatabaseURL); !strings.Contains(said, "is not empty") || !strings.Contains(said, "api_key") {
		t.Errorf("onto a database that went on: %s", said)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("the source is marked as copied")
	}
}

func TestACopyIsRefused(t *testing.T) {
	empty := func(t *testing.T) string { return inPostgres(t).DatabaseURL }
	for name, test := range map[string]struct {
		prepare func(t *testing.T, from Options) (to string)
		says    string
	}{
		"a gateway runs": {func(t *testing.T, from Options) string {
			open(t, from, Gateway)
			return empty(t)
		}, "stop that one first"},
		"an older schema here": {func(t *testing.T, from Options) string {
			s := open(t, from, Command)
			execute(t, s, `DELETE FROM schema_version WHERE version > 4`)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return empty(t)
		}, "data migrate"},
		"an older schema there": {func(t *testing.T, _ Options) string {
			to := inPostgres(t)
			execute(t, open(t, to, Command), `DELETE FROM schema_version WHERE version > 4`)
			return to.DatabaseURL
		}, "it is used already"},
		"a newer schema there": {func(t *testing.T, _ Options) string {
			to := inPostgres(t)
			execute(t, open(t, to, Command), `INSERT INTO schema_version VALUES (1000, 0)`)
			return to.DatabaseURL
		}, "a newer gateway has used it"},
		"it is used": {func(t *testing.T, _ Options) string {
			to := inPostgres(t)
			addOne(t, open(t, to, Command), "acme", fileOf(1))
			return to.DatabaseURL
		}, "is not empty: there are rows in its table file"},
		"no URL": {func(*testing.T, Options) string { return "hunter2" }, "must be as postgres://"},
	} {
		t.Run(name, func(t *testing.T) {
			from := embedded(t)
			s := open(t, from, Command)
			if err := errors.Join(s.CreateKey(t.Context(), keyOf("a", "acme"), AuditEntry{}, nil), s.Close()); err != nil {
				t.Fatal(err)
			}
			to := test.prepare(t, from)
			if said := copyRefused(t, from, to); !strings.Contains(said, test.says) || strings.Contains(said, "hunter2") {
				t.Errorf("it says %s", said)
			}
			if _, err := os.Stat(filepath.Join(from.Data, copiedFile)); err == nil {
				t.Error("the source is marked as copied")
			}
		})
	}
	none := embedded(t)
	if said := copyRefused(t, none, empty(t)); !strings.Contains(said, "no data folder") {
		t.Errorf("of nothing: %s", said)
	}
	if _, err := os.Stat(none.Data); err == nil {
		t.Error("the folder was made")
	}
}

func TestWhatIsRefusedByItsCheckIsNotCopied(t *testing.T) {
	to, from := inPostgres(t), embedded(t)
	if err := open(t, from, Command).Close(); err != nil {
		t.Fatal(err)
	}
	lost := errors.New("a content is lost")
	if _, err := Copy(t.Context(), from, CopyOptions{To: to.DatabaseURL, Check: func(*Store) error { return lost }}); !errors.Is(err, lost) {
		t.Error(err)
	}
	if err := CheckOptions(t.Context(), from); err != nil {
		t.Errorf("the source: %v", err)
	}
}

// TestACopyThatDiffersIsNoCopy: the database changes what comes, or loses it, or adds to it.
func TestACopyThatDiffersIsNoCopy(t *testing.T) {
	for name, body := range map[string]string{
		"changes": `NEW.name := 'other'; RETURN NEW;`,
		"loses":   `RETURN NULL;`,
		"adds":    `INSERT INTO file_usage VALUES ('x', 1, 1); RETURN NEW;`,
	} {
		t.Run(name, func(t *testing.T) {
			to, from := inPostgres(t), embedded(t)
			source := open(t, from, Command)
			addOne(t, source, "acme", fileOf(1))
			if err := source.Close(); err != nil {
				t.Fatal(err)
			}
			target := open(t, to, Command)
			execute(t, target, `CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN `+strings.ReplaceAll(body, "'", "''")+` END'`)
			execute(t, target, `CREATE TRIGGER meddle BEFORE INSERT ON file FOR EACH ROW EXECUTE FUNCTION meddle()`)
			if _, err := tryCopy(t, from, to.DatabaseURL); err == nil || !strings.Contains(err.Error(), "with hashes") {
				t.Errorf("got %v", err)
			}
			left := contentOf(t, target, tablesThere(t, target))
			for table := range maps.Keys(left) {
				if table != versionTable && !slices.Contains(seededTables, table) && len(left[table]) > 0 {
					t.Errorf("left of it: %s", left[table])
				}
			}
			addOne(t, open(t, from, Gateway), "acme", fileOf(2)) // the source goes on
		})
	}
}

func TestProgressIsTold(t *testing.T) {
	to, from := inPostgres(t), embedded(t)
	source := open(t, from, Command)
	fillJobs(t, source, 2500, 0)
	if err := source.Close(); err != nil {
		t.Fatal(err)
	}
	var told []string
	_, err := Copy(context.Background(), from, CopyOptions{To: to.DatabaseURL, Check: func(*Store) error { return nil }, Progress: func(table string, done, total int64) {
		told = append(told, fmt.Sprintf("%s %d/%d", table, done, total))
	}})
	if want := []string{"job 1000/2502", "job 2000/2502"}; err != nil || !reflect.DeepEqual(told, want) {
		t.Errorf("told %v, %v", told, err)
	}
}
