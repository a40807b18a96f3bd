//go:build linux

package testkit

import (
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
