package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"triptych.dev/gateway/internal/testkit"
)

// withinASecond is what is promised of a change of a key.
const withinASecond = time.Second

// untilRefused returns how long a key is still taken.
func untilRefused(t *testing.T, api, key string, since time.Time) time.Duration {
	t.Helper()
	eventually(t, "the end of the revoked key", func() bool { return embed(api, key) == http.StatusUnauthorized })
	return time.Since(since)
}

func TestTwoGatewaysOnOneDataFolder(t *testing.T) {
	site := newSite(t)
	key := site.createKey()
	first := site.serve()
	api := address(t, first.log, "http")
	eventually(t, "ready", func() bool { return get(api, "/readyz") == http.StatusOK })
	status, _, stderr := execute(t, site.serveArguments()...)
	if status != exitUsage || !strings.Contains(stderr, "stop that one first") || strings.Contains(stderr, "listening") {
		t.Errorf("the second one: %d %s", status, stderr)
	}
	if got := embed(api, key); got != http.StatusOK {
		t.Errorf("the first one answers %d", got)
	}
}

func TestTheLockEndsWithTheProcess(t *testing.T) {
	site := newSite(t)
	key := site.createKey()
	child, log := site.process()
	address(t, log, "http")
	site.signal(child, syscall.SIGKILL)
	_ = child.Wait()
	api := address(t, site.serve().log, "http")
	eventually(t, "an answer", func() bool { return embed(api, key) == http.StatusOK })
}

func TestTwoReplicasOnOnePostgres(t *testing.T) {
	site := inPostgres(t)
	key := site.createKey()
	replicas := []*served{site.serve(), site.serve()}
	var apis []string
	for _, replica := range replicas {
		api := address(t, replica.log, "http")
		eventually(t, "an answer", func() bool { return embed(api, key) == http.StatusOK })
		apis = append(apis, api)
	}
	second := site.createKey()
	since := time.Now()
	for _, api := range apis {
		eventually(t, "the new key", func() bool { return embed(api, second) == http.StatusOK })
	}
	if took := time.Since(since); took > withinASecond {
		t.Errorf("the new key counts on both after %v", took)
	}
	site.keys("revoke", strings.Split(key, "_")[1])
	since = time.Now()
	for i, api := range apis {
		if took := untilRefused(t, api, key, since); took > withinASecond {
			t.Errorf("replica %d took the revoked key for %v", i, took)
		}
	}
	for _, replica := range replicas {
		if log := replica.log.String(); strings.Contains(log, testkit.PostgresPassword) || !strings.Contains(log, `"database_url":"[redacted]"`) {
			t.Errorf("the password is in the log:\n%s", log)
		}
	}
}

func TestThePostgresServerGoesAndComesBack(t *testing.T) {
	site, server := newSite(t), testkit.StartPostgres(t)
	site.store = []string{"--database-url", server.NewDatabase(t)}
	key := site.createKey()
	g := site.serve()
	api, operations := address(t, g.log, "http"), address(t, g.log, "metrics")
	eventually(t, "an answer", func() bool { return embed(api, key) == http.StatusOK })
	server.Stop(t)
	eventually(t, "the store in the metrics", func() bool {
		text := getText(operations, "/metrics")
		return strings.Contains(text, `gateway_source_stale_seconds{source="keys"}`) && !strings.Contains(text, `gateway_source_stale_seconds{source="keys"} 0`+"\n")
	})
	if got := embed(api, key); got != http.StatusOK {
		t.Errorf("without the store the key gets %d", got)
	}
	status, stdout, stderr := execute(t, append([]string{"keys", "create", "--tenant", "acme"}, site.files()...)...)
	if status != exitFailed || stdout != "" || strings.Contains(stderr, testkit.PostgresPassword) {
		t.Errorf("a key without the store: %d %s%s", status, stdout, stderr)
	}
	server.Start(t)
	site.keys("revoke", strings.Split(key, "_")[1])
	untilRefused(t, api, key, time.Now())
	if log := g.log.String(); strings.Contains(log, testkit.PostgresPassword) || !strings.Contains(log, "a source cannot be taken") {
		t.Errorf("the log is\n%s", log)
	}
}

func TestAStartWithoutThePostgresServerFails(t *testing.T) {
	site := newSite(t)
	site.store = []string{"--database-url", "postgres://tester:hunter2@127.0.0.1:1/db"}
	if status, _, stderr := execute(t, site.serveArguments()...); status != exitFailed || strings.Contains(stderr, "hunter2") || !strings.Contains(stderr, "127.0.0.1") {
		t.Errorf("%d %s", status, stderr)
	}
}

func TestAReadOnlyDataFolderIsRefused(t *testing.T) {
	site := newSite(t)
	site.createKey()
	folder, err := os.MkdirTemp("", "read-only-") // a test's own one is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	data, program := filepath.Join(folder, "data"), filepath.Join(folder, "gateway")
	for from, to := range map[string]string{os.Args[0]: program, site.tenants: filepath.Join(folder, "tenants.yaml")} {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(data, os.DirFS(site.data())); err != nil {
		t.Fatal(err)
	}
	child := exec.Command(program, site.serveArguments("--data", data, "--tenants-file", filepath.Join(folder, "tenants.yaml"))...)
	child.Env = append(os.Environ(), asGateway+"=1")
	if os.Getuid() == 0 { // whom no mode stops
		child.SysProcAttr = &syscall.SysProcAttr{Credential: nobody(t)}
		giveAway(t, data, child.SysProcAttr.Credential)
	}
	for path, mode := range map[string]os.FileMode{folder: 0o755, data: 0o500} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"lock", "database.lock", "gateway.db"} {
		_ = os.Chmod(filepath.Join(data, name), 0o400)
	}
	var stderr bytes.Buffer
	child.Stderr = &stderr
	_ = child.Run()
	if status := child.ProcessState.ExitCode(); status != exitUsage || !strings.Contains(stderr.String(), "data folder") || !strings.Contains(stderr.String(), "permission denied") {
		t.Errorf("%d %s", status, stderr.String())
	}
}

func nobody(t *testing.T) *syscall.Credential {
	t.Helper()
	found, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(found.Uid)
	gid, _ := strconv.Atoi(found.Gid)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func giveAway(t *testing.T, folder string, to *syscall.Credential) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, int(to.Uid), int(to.Gid))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// createInALoop makes the process of the test binary one that creates keys until it is killed.
const createInALoop = "TEST_CREATE_KEYS"

// A key that was shown is kept, and nothing is damaged, whenever the process that makes keys is killed.
func TestKilledWhileCreatingKeys(t *testing.T) {
	for name, newSite := range map[string]func(*testing.T) *site{"sqlite": newSite, "postgres": inPostgres} {
		t.Run(name, func(t *testing.T) {
			site := newSite(t)
			var shown []string
			kills := testkit.Kills(t, 5)
			for kill := range kills {
				child := exec.Command(os.Args[0], append([]string{"keys", "create", "--tenant", "acme"}, site.files()...)...)
				child.Env = append(os.Environ(), createInALoop+"=1")
				output, err := child.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := child.Start(); err != nil {
					t.Fatal(err)
				}
				lines := bufio.NewScanner(output)
				for i := 0; lines.Scan(); i++ {
					shown = append(shown, lines.Text())
					if i == 3*kill {
						_ = child.Process.Kill() // and what is in the pipe was shown
					}
				}
				_ = child.Wait()
			}
			checked, _ := site.succeed("data", "check")
			listed := site.keys("list")
			for _, key := range shown {
				if !strings.Contains(listed, strings.Split(key, "_")[1]) {
					t.Errorf("the key %s was shown and is lost", strings.Split(key, "_")[1])
				}
			}
			var kept int
			if _, err := fmt.Sscanf(checked[strings.LastIndex(checked, ", ")+2:], "%d keys", &kept); err != nil || kept < len(shown) || kept > len(shown)+kills {
				t.Errorf("%d keys were shown, and %d are kept: %v", len(shown), kept, err)
			}
			if len(shown) < 30 {
				t.Errorf("%d keys were made: this test proves little", len(shown))
			}
		})
	}
}
