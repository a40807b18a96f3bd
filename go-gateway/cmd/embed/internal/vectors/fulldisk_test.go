//go:build linux

package vectors

import (
	"errors"
	"syscall"
	"testing"
)

// TestAFullDisk loses nothing of what Append has returned from, and a later process goes on when there is room.
func TestAFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=131072"); err != nil {
		t.Skipf("LOUD: no file system may be mounted here (%v): a full disk is NOT tested", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	s, err := Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for ; ; kept += 100 {
		if err := s.Append(embedded(kept, kept+100)); errors.Is(err, syscall.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Append(embedded(kept, kept+1)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("it goes on with what it has written in part: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=1048576"); err != nil {
		t.Fatal(err)
	}
	later, err := Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	if got := holds(t, later, kept); got != kept {
		t.Errorf("%d of %d are there", got, kept)
	}
	add(t, later, embedded(kept, kept+100)...)
	if got := holds(t, later, kept+100); got != kept+100 {
		t.Errorf("%d of %d are there", got, kept+100)
	}
	if err := later.Close(); err != nil {
		t.Error(err)
	}
}
