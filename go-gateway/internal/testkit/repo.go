package testkit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// RepoFile reads a file of the repository, named from its root.
func RepoFile(t testing.TB, name string) []byte {
	t.Helper()
	return RepoFiles(t, name)[0]
}

// RepoFiles reads the files of the repository that a pattern from its root matches: one at least.
func RepoFiles(t testing.TB, pattern string) (files [][]byte) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root(t), pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("the repository has no %s, %v", pattern, err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, data)
	}
	return files
}

// root is the repository's.
func root(t testing.TB) string {
	t.Helper()
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; folder != filepath.Dir(folder); folder = filepath.Dir(folder) {
		if _, err := os.Stat(filepath.Join(folder, "docs", "errors.md")); err == nil {
			return folder
		}
	}
	t.Fatal("this test does not run inside the repository")
	return ""
}

// ErrorRow is one row of docs/errors.md, as text.
type ErrorRow struct {
	Reason, GRPC, Status, Type, Code, Retry string
}

// Hotpath reports whether the hot path gives this reason too: the others have no gRPC code.
func (r ErrorRow) Hotpath() bool { return r.GRPC != "–" }

// ErrorTable reads the table of docs/errors.md, by reason.
func ErrorTable(t testing.TB) map[string]ErrorRow {
	t.Helper()
	rows := map[string]ErrorRow{}
	for line := range strings.Lines(string(RepoFile(t, "docs/errors.md"))) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(line, "|")
		for i := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(cells[i]), "`")
		}
		if len(cells) != 9 { // 7 columns between 8 bars
			t.Fatalf("docs/errors.md: a row has %d columns: %s", len(cells)-2, line)
		}
		row := ErrorRow{cells[1], cells[2], cells[3], cells[4], cells[5], cells[6]}
		if _, twice := rows[row.Reason]; twice {
			t.Fatalf("docs/errors.md has %s twice", row.Reason)
		}
		rows[row.Reason] = row
	}
	if len(rows) == 0 {
		t.Fatal("docs/errors.md has no table")
	}
	return rows
}
