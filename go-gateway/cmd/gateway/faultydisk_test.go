//go:build linux

package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// faultyDisk is a file system of its own that the system makes read-only once fail says that it has a fault, as it does where a
// disk has one. repair has it checked, and writable again: nobody may use it then.
func faultyDisk(t *testing.T) (disk string, fail, repair func()) {
	t.Helper()
	image, disk := filepath.Join(t.TempDir(), "image"), t.TempDir()
	try := func(program string, arguments ...string) bool {
		said, err := exec.Command(program, arguments...).CombinedOutput()
		if err != nil {
			t.Logf("%s: %v\n%s", program, err, said)
		}
		return err == nil
	}
	mount := func() bool { return try("mount", "-o", "loop,errors=remount-ro", image, disk) }
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 64<<20); err != nil {
		t.Fatal(err)
	}
	if !try("mkfs.ext4", "-q", "-F", image) || !mount() {
		t.Skip("LOUD: no file system of ext4 may be mounted here: a disk that the system makes read-only is NOT tested")
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	fail = func() {
		t.Helper()
		try("sync", "--file-system", disk) // what is mapped must be written anew to be changed
		source, err := exec.Command("findmnt", "--noheadings", "--output", "SOURCE", disk).Output()
		if err != nil {
			t.Fatal(err)
		}
		trigger := "/sys/fs/ext4/" + filepath.Base(strings.TrimSpace(string(source))) + "/trigger_fs_error"
		_ = os.WriteFile(trigger, []byte("a test"), 0o200) // which itself says that it is read-only now
		if err := os.WriteFile(filepath.Join(disk, "probe"), nil, 0o600); err == nil {
			t.Skip("LOUD: faults cannot be made here: a disk that the system makes read-only is NOT tested")
		}
	}
	return disk, fail, func() {
		t.Helper()
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Fatal(err)
		}
		_ = exec.Command("fsck.ext4", "-f", "-y", image).Run() // 1: there were faults, and there are none any more
		if !mount() {
			t.Fatal("it cannot be mounted again")
		}
	}
}

// TestADiskThatTheSystemMakesReadOnly beneath a gateway costs no synchronous call, and nothing that was acknowledged. Such a disk is
// not writable again before it was unmounted: that takes a restart.
func TestADiskThatTheSystemMakesReadOnly(t *testing.T) {
	site := newSite(t)
	disk, fail, repair := faultyDisk(t)
	site.store = []string{"--data", filepath.Join(disk, "data")}
	key := site.createKey()
	child, log := site.process("--min-free-bytes", "0")
	api := address(t, log, "http")
	eventually(t, "ready", func() bool { return get(api, "/readyz") == http.StatusOK })
	kept := uploadFile(t, api, key, "kept")
	fail()
	for range 20 {
		if got := embed(api, key); got != http.StatusOK {
			t.Errorf("a synchronous call gets %d", got)
		}
		status, reply := fileRequest(t, http.MethodPost, api, "/v1/files", key, uploadForm("user_data", "b", "lost"))
		if status != http.StatusServiceUnavailable || !strings.Contains(reply, `"storage_unavailable"`) {
			t.Errorf("an upload: %d %s", status, reply)
		}
		status, reply = sendJSON(t, http.MethodDelete, api, "/v1/files/"+kept, key, "")
		if status != http.StatusServiceUnavailable || !strings.Contains(reply, `"storage_unavailable"`) {
			t.Errorf("deleting: %d %s", status, reply)
		}
		if status, reply := sendJSON(t, http.MethodGet, api, "/v1/files/"+kept+"/content", key, ""); status != http.StatusOK || reply != "kept" {
			t.Errorf("a content is read: %d %s", status, reply)
		}
	}
	site.succeed("data", "check")
	site.signal(child, syscall.SIGTERM)
	_ = child.Wait()
	repair()
	again := site.serve("--min-free-bytes", "0")
	api = address(t, again.log, "http")
	eventually(t, "an answer", func() bool { return embed(api, key) == http.StatusOK })
	if status, reply := sendJSON(t, http.MethodGet, api, "/v1/files/"+kept+"/content", key, ""); status != http.StatusOK || reply != "kept" {
		t.Errorf("after the repair: %d %s", status, reply)
	}
	uploadFile(t, api, key, "more")
	again.stop()
	again.exit()
	site.succeed("data", "check", "--hashes")
}
