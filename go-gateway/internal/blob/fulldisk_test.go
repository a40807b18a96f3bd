//go:build linux

package blob

import (
	"bytes"
	"errors"
	"syscall"
	"testing"
)

// TestAFullDisk is told as such, leaves nothing, and heals without a restart.
func TestAFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=1048576"); err != nil {
		t.Skipf("LOUD: no file system may be mounted here (%v): a full disk is NOT tested", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	f := folderOf(t, disk)
	for range 2 {
		if _, _, err := f.Put(t.Context(), bytes.NewReader(make([]byte, 2<<20)), 4<<20); !errors.Is(err, ErrFull) {
			t.Error(err)
		}
		nothingIsLeft(t, f)
	}
	put(t, f, "there is room again")
	if free, err := f.Free(); err != nil || free <= 0 || free >= 1<<20 {
		t.Errorf("%d bytes free, %v", free, err)
	}
}
