package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// uploadFile uploads a file of its own and returns its id.
func uploadFile(t *testing.T, api, key, content string) string {
	t.Helper()
	return uploadAs(t, api, key, "user_data", "a", content)
}

// keepFile has a gateway keep a file and end, and returns the key that it was uploaded with.
func (s *site) keepFile(content string) (key string) {
	s.Helper()
	key = s.createKey()
	g := s.serve()
	uploadFile(s.T, address(s.T, g.log, "http"), key, content)
	g.stop()
	g.exit()
	return key
}

// uploadAs uploads a file for a purpose.
func uploadAs(t *testing.T, api, key, purpose, name, content string) string {
	t.Helper()
	_, body := fileRequest(t, http.MethodPost, api, "/v1/files", key, uploadForm(purpose, name, content))
	return idOf(t, body)
}

func uploadForm(purpose, name, content string) string {
	return "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n" + purpose + "\r\n--b\r\n" +
		"Content-Disposition: form-data; name=\"file\"; filename=\"" + name + "\"\r\n\r\n" + content + "\r\n--b--\r\n"
}

// idOf returns the id of what a reply says was made.
func idOf(t *testing.T, reply string) string {
	t.Helper()
	_, after, _ := strings.Cut(reply, `"id":"`)
	id, _, found := strings.Cut(after, `"`)
	if !found {
		t.Fatal(reply)
	}
	return id
}

func fileRequest(t *testing.T, method, api, path, key, body string) (status int, reply string) {
	t.Helper()
	return send(t, method, api, path, key, "multipart/form-data; boundary=b", body)
}

func sendJSON(t *testing.T, method, api, path, key, body string) (status int, reply string) {
	t.Helper()
	return send(t, method, api, path, key, "application/json", body)
}

func send(t *testing.T, method, api, path, key, kind, body string) (status int, reply string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+api+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Content-Type", kind)
	sent, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer sent.Body.Close()
	text, err := io.ReadAll(sent.Body)
	if err != nil {
		t.Fatal(err)
	}
	return sent.StatusCode, string(text)
}

// TestContentsAreBackedUpWithTheirRows and come back with them, also to another place.
func TestContentsAreBackedUpWithTheirRows(t *testing.T) {
	site := newSite(t)
	key := site.createKey()
	g := site.serve()
	api := address(t, g.log, "http")
	kept := uploadFile(t, api, key, "kept")
	file := filepath.Join(t.TempDir(), "backup.db")
	if _, stderr := site.succeed("data", "backup", "--to", file); !strings.Contains(stderr, `"contents":1`) {
		t.Errorf("the audit log says %s", stderr)
	}
	if status, _ := fileRequest(t, http.MethodDelete, api, "/v1/files/"+kept, key, ""); status != http.StatusOK {
		t.Errorf("deleted: %d", status)
	}
	uploadFile(t, api, key, "later")
	g.stop()
	g.exit()
	blobs := filepath.Join(site.store[1], "blobs")
	if err := os.RemoveAll(blobs); err != nil { // as the sweep will, and a new machine
		t.Fatal(err)
	}
	site.succeed("data", "restore", "--from", file)
	if stdout, _ := site.succeed("data", "check", "--hashes"); !strings.HasSuffix(stdout, "good: the contents of files, 1 of them\n") {
		t.Errorf("got %s", stdout)
	}
	api = address(t, site.serve().log, "http")
	if status, content := fileRequest(t, http.MethodGet, api, "/v1/files/"+kept+"/content", key, ""); status != http.StatusOK || content != "kept" {
		t.Errorf("after the restore: %d %s", status, content)
	}
	damaged, err := filepath.Glob(filepath.Join(blobs, "blobs", "*", "*"))
	if err != nil || len(damaged) != 1 {
		t.Fatalf("%v, %v", damaged, err)
	}
	check := func(arguments ...string) string {
		t.Helper()
		status, _, stderr := execute(t, append(append([]string{"data", "check"}, arguments...), site.store...)...)
		if status == exitOK {
			return ""
		}
		return stderr
	}
	if err := os.WriteFile(damaged[0], []byte("lost"), 0o600); err != nil { // as long
		t.Fatal(err)
	}
	if short, whole := check(), check("--hashes"); short != "" || !strings.Contains(whole, "the contents of 1 files") {
		t.Errorf("damaged: %q, with --hashes %q", short, whole)
	}
	if err := os.Remove(damaged[0]); err != nil {
		t.Fatal(err)
	}
	if said := check(); !strings.Contains(said, "the contents of 1 files are not there") {
		t.Errorf("gone: %q", said)
	}
	status, _, stderr := execute(t, append([]string{"data", "backup", "--to", file + "2"}, site.store...)...)
	if status == exitOK || !strings.Contains(stderr, "lacks what was lost before") {
		t.Errorf("a backup without it: %d %s", status, stderr)
	}
}

func TestGatewaysOfOnePostgresShareAFolderOfContents(t *testing.T) {
	site := inPostgres(t)
	key := site.createKey()
	blobs := filepath.Join(t.TempDir(), "blobs")
	first, second := site.serve("--blobs", blobs), site.serve("--blobs", blobs)
	id := uploadFile(t, address(t, first.log, "http"), key, "shared")
	if status, content := fileRequest(t, http.MethodGet, address(t, second.log, "http"), "/v1/files/"+id+"/content", key, ""); status != http.StatusOK || content != "shared" {
		t.Errorf("through the other one: %d %s", status, content)
	}
	without := site.serve()
	if status, said := fileRequest(t, http.MethodGet, address(t, without.log, "http"), "/v1/files", key, ""); status != http.StatusNotImplemented || !strings.Contains(said, "blobs") {
		t.Errorf("without a folder: %d %s", status, said)
	}
	if stdout, _ := site.succeed("data", "check", "--blobs", blobs); !strings.Contains(stdout, "good: the contents of files, 1 of them") {
		t.Errorf("got %s", stdout)
	}
	if stdout, _ := site.succeed("data", "check"); !strings.Contains(stdout, "not checked") {
		t.Errorf("got %s", stdout)
	}
}
