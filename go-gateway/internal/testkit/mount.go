//go:build linux

package testkit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// MountReadOnly makes a folder one that can only be read: at a place of its own, or in its own place, where whoever has opened
// files before can still write to them. It lasts until unmount is called, and no longer than the test.
func MountReadOnly(t testing.TB, folder, place string) (unmount func()) {
	t.Helper()
	if err := syscall.Mount(folder, place, "", syscall.MS_BIND, ""); err != nil {
		t.Skipf("LOUD: nothing may be mounted here (%v): what can only be read is NOT tested", err)
	}
	unmount = sync.OnceFunc(func() {
		if err := syscall.Unmount(place, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(unmount)
	if err := syscall.Mount("", place, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	return unmount
}

// SmallDisk is a file system of its own. What uses it must have ended before the test has.
func SmallDisk(t testing.TB, bytes int) (folder string) {
	t.Helper()
	folder, err := os.MkdirTemp("", "disk-") // a test's own one is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(folder) })
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0777", bytes)); err != nil {
		t.Skipf("LOUD: no file system may be mounted here (%v): a full disk is NOT tested", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, 0); err != nil { // somebody has left a file open
			t.Error(err)
		}
	})
	return folder
}

// Fill takes all that is left of a disk, to the last block, until room is called.
func Fill(t testing.TB, disk string) (room func()) {
	t.Helper()
	file, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = file.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		if err := os.Remove(file.Name()); err != nil {
			t.Error(err)
		}
	})
}
