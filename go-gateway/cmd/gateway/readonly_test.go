//go:build linux

package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

// refusedStart starts a gateway that must end at once, and returns the one line that it says.
func (s *site) refusedStart(extra ...string) string {
	s.Helper()
	began := time.Now()
	status, stdout, stderr := execute(s.T, s.serveArguments(extra...)...)
	if took := time.Since(began); status != exitUsage || stdout != "" || strings.Count(stderr, "\n") != 1 || took > time.Second {
		s.Errorf("after %v: %d %s%s", took, status, stdout, stderr)
	}
	if status, _, checked := execute(s.T, s.serveArguments(append(extra, "--check-config")...)...); status != exitUsage && len(extra) == 0 {
		s.Errorf("--check-config: %d %s", status, checked)
	}
	return stderr
}

func TestAStartOnAReadOnlyDataFolder(t *testing.T) {
	site := newSite(t)
	key := site.keepFile("kept")
	testkit.MountReadOnly(t, site.data(), site.data())
	if said := site.refusedStart(); !strings.Contains(said, site.data()) || !strings.Contains(said, "mount it for writing") {
		t.Errorf("it says %s", said)
	}
	if status, _, stderr := execute(t, append([]string{"keys", "create", "--tenant", "acme"}, site.files()...)...); status != exitUsage || !strings.Contains(stderr, "mount it for writing") {
		t.Errorf("a key is made: %d %s", status, stderr)
	}
	if stdout, _ := site.succeed("data", "check", "--hashes"); !strings.Contains(stdout, "good: the contents of files, 1 of them") {
		t.Errorf("got %s", stdout)
	}
	if listed := site.keys("list"); !strings.Contains(listed, strings.Split(key, "_")[1]) {
		t.Errorf("listed as %s", listed)
	}
	site.succeed("jobs", "count")
	backup := filepath.Join(t.TempDir(), "backup.db")
	site.succeed("data", "backup", "--to", backup)
	restored := newSite(t)
	testkit.MountReadOnly(t, filepath.Dir(backup), filepath.Dir(backup)) // what is restored may be on such a disk, too
	restored.succeed("data", "restore", "--from", backup)
	if stdout, _ := restored.succeed("data", "check", "--hashes"); !strings.Contains(stdout, ", 1 keys\ngood: the contents of files, 1 of them") {
		t.Errorf("restored: %s", stdout)
	}
}

func TestAStartOnAReadOnlyPostgres(t *testing.T) {
	site, server := newSite(t), testkit.StartPostgres(t)
	site.store = []string{"--database-url", server.NewDatabase(t)}
	key := site.createKey()
	check := func(remedy string) {
		t.Helper()
		if said := site.refusedStart(); !strings.Contains(said, "PostgreSQL at 127.0.0.1, database test1") || !strings.Contains(said, remedy) || strings.Contains(said, testkit.PostgresPassword) {
			t.Errorf("it says %s", said)
		}
		if stdout, _ := site.succeed("data", "check"); !strings.HasPrefix(stdout, "good: ") {
			t.Errorf("got %s", stdout)
		}
		if listed := site.keys("list"); !strings.Contains(listed, strings.Split(key, "_")[1]) {
			t.Errorf("listed as %s", listed)
		}
	}
	server.SetReadOnly(t, true)
	check("default_transaction_read_only is on")
	server.SetReadOnly(t, false)
	server.Stop(t)
	server.StartStandby(t)
	check("name the primary")
	server.Promote(t)
	address(t, site.serve().log, "http")
}

func TestAStartWithAReadOnlyFolderOfContents(t *testing.T) {
	site := inPostgres(t)
	site.createKey()
	blobs := t.TempDir()
	testkit.MountReadOnly(t, blobs, blobs)
	if said := site.refusedStart("--blobs", blobs); !strings.Contains(said, blobs) || !strings.Contains(said, "--blobs") {
		t.Errorf("it says %s", said)
	}
}

// blocked has the hot path answer nothing but canaries until it is released.
func (s *site) blocked() (release func()) {
	waits := make(chan struct{})
	s.hotpath.SetEmbed(func(ctx context.Context, request *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		if request.GetScheduling().GetPriority() == inferencev1.Priority_PRIORITY_BATCH {
			select {
			case <-waits:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return testkit.Embed(ctx, request)
	})
	return sync.OnceFunc(func() { close(waits) })
}

// TestStorageThatBecomesReadOnly costs no synchronous call; what is to be kept is refused as such, batches and jobs wait, and all
// goes on without a restart.
func TestStorageThatBecomesReadOnly(t *testing.T) {
	server := testkit.StartPostgres(t)
	blobs := t.TempDir()
	for name, test := range map[string]struct {
		store    []string
		readOnly func() (undo func())
		meet     int // queues that must meet it, also where nothing in them is due
	}{
		"postgres": {[]string{"--database-url", server.NewDatabase(t), "--blobs", t.TempDir()}, func() func() {
			server.SetReadOnly(t, true)
			return func() { server.SetReadOnly(t, false) }
		}, 0},
		"contents": {[]string{"--data", filepath.Join(t.TempDir(), "data"), "--blobs", blobs}, func() func() { return testkit.MountReadOnly(t, blobs, blobs) }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			site := newSite(t)
			site.store = test.store[:2]
			key := site.createKey()
			release := site.blocked()
			defer release()
			g := site.serve(test.store[2:]...)
			api := address(t, g.log, "http")
			eventually(t, "ready", func() bool { return get(api, "/readyz") == http.StatusOK })
			input := uploadAs(t, api, key, "batch", "a.jsonl", embedLines(100))
			creations := map[string]string{
				"/v1/batches": `{"input_file_id":"` + input + `","endpoint":"/v1/embeddings","completion_window":"24h"}`,
				"/v1/jobs":    `{"endpoint":"/v1/embeddings","body":{"model":"` + testkit.ModelName + `","input":"a"}}`,
			}
			made := map[string]string{} // paths of what must be done in the end
			createAll := func() {
				t.Helper()
				for path, body := range creations {
					status, reply := sendJSON(t, http.MethodPost, api, path, key, body)
					if status >= 300 {
						t.Fatalf("%s: %d %s", path, status, reply)
					}
					made[path+"/"+idOf(t, reply)] = ""
				}
			}
			createAll()
			eventually(t, "work under way", func() bool { return len(site.hotpath.Calls()) >= 2 })
			undo := test.readOnly()
			release()
			if got := embed(api, key); got != http.StatusOK {
				t.Errorf("a synchronous call gets %d", got)
			}
			refused := func(method, path, body string) {
				t.Helper()
				status, reply := sendJSON(t, method, api, path, key, body)
				if path == "/v1/files" {
					status, reply = fileRequest(t, method, api, path, key, uploadForm("user_data", "a", "content"))
				}
				if status != http.StatusServiceUnavailable || !strings.Contains(reply, `"storage_unavailable"`) {
					t.Errorf("%s %s: %d %s", method, path, status, reply)
				}
			}
			refused(http.MethodPost, "/v1/files", "")
			for path, body := range creations {
				refused(http.MethodPost, path, body)
			}
			for path := range made {
				if status, reply := sendJSON(t, http.MethodGet, api, path, key, ""); status != http.StatusOK {
					t.Errorf("%s is read: %d %s", path, status, reply)
				}
			}
			if status, reply := sendJSON(t, http.MethodGet, api, "/v1/files/"+input+"/content", key, ""); status != http.StatusOK {
				t.Errorf("a content is read: %d %s", status, reply)
			}
			said := func() int {
				return strings.Count(g.log.String(), "the queue waits") + strings.Count(g.log.String(), "no job is begun")
			}
			eventually(t, "each queue to say that it waits", func() bool { return said() >= test.meet })
			undo()
			createAll()
			for path := range made {
				eventuallyIn(t, time.Minute, path+" to be done", func() bool { // what could not be written is tried again after some seconds
					_, reply := sendJSON(t, http.MethodGet, api, path, key, "")
					return strings.Contains(reply, `"status":"completed"`)
				})
			}
			if said() > 3 {
				t.Errorf("three queues wait, and that is said %d times:\n%s", said(), g.log)
			}
		})
	}
}

// embedLines are so many lines of a batch.
func embedLines(n int) string {
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, `{"custom_id":"%d","method":"POST","url":"/v1/embeddings","body":{"model":"%s","input":"text %d"}}`+"\n", i, testkit.ModelName, i)
	}
	return lines.String()
}
