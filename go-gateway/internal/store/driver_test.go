package store

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// wantedBySQLite returns the line of the SQLite driver's go.mod that names its C library.
func wantedBySQLite(t *testing.T) string {
	t.Helper()
	folder, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "modernc.org/sqlite").Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(folder)), "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`modernc\.org/libc v\S+`).FindString(string(text))
	if line == "" {
		t.Fatal("it names none")
	}
	return line + " "
}
