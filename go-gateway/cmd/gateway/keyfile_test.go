package main

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestAKeyIsWrittenIntoAFileOnce(t *testing.T) {
	site := newSite(t)
	folder := t.TempDir()
	path := filepath.Join(folder, "key")
	create := func(path string) (status int, stdout, stderr string) {
		t.Helper()
		return execute(t, slices.Concat([]string{"keys", "create", "--tenant", "acme", "--file", path}, site.files())...)
	}
	status, stdout, stderr := create(path)
	content, err := os.ReadFile(path)
	if status != exitOK || stdout != "" || err != nil || !strings.HasPrefix(string(content), "trip_") {
		t.Fatalf("%d %q %s; %v", status, stdout, stderr, err)
	}
	key := strings.TrimSpace(string(content))
	if strings.Contains(stderr, strings.Split(key, "_")[2]) {
		t.Error("the key is told")
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	api := address(t, site.serve().log, "http")
	eventually(t, "an answer to that key", func() bool { return embed(api, key) == http.StatusOK })

	listed := site.keys("list")
	if status, stdout, _ := create(path); status != exitOK || !strings.Contains(stdout, "no key was made") {
		t.Errorf("where it is there: %d %q", status, stdout)
	}
	if status, _, stderr := create(filepath.Join(folder, "none", "key")); status != exitUsage || !strings.Contains(stderr, "none") {
		t.Errorf("where none can be written: %d %q", status, stderr)
	}
	if again := site.keys("list"); again != listed {
		t.Errorf("more keys than one:\n%s", again)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(content) {
		t.Errorf("the file has changed: %v", err)
	}
	if files, err := os.ReadDir(folder); err != nil || len(files) != 1 {
		t.Errorf("what is left is %v, %v", files, err)
	}
}

func TestAFileThatAnotherHasMadeIsLeft(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	file, err := newKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := file.keep("ours"); err == nil {
		t.Error("it was overwritten")
	}
	file.remove()
	if content, err := os.ReadFile(path); err != nil || string(content) != "theirs" {
		t.Errorf("%q, %v", content, err)
	}
}
