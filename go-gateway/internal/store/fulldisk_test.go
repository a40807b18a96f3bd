//go:build linux

package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// smallDisk is a file system of its own.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	folder := t.TempDir()
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Skipf("LOUD: no file system may be mounted here (%v): a full disk is NOT tested", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, 0); err != nil {
			t.Error(err)
		}
	})
	return folder
}

// fill takes all that is left of a disk, to the last block.
func fill(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
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
}

// TestAFullDiskHeals without a restart, and loses nothing that was acknowledged.
func TestAFullDiskHeals(t *testing.T) {
	disk := smallDisk(t, 4<<20)
	options := Options{Data: filepath.Join(disk, "data")}
	s, err := Open(t.Context(), options, Gateway)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // before the disk goes
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	filler := filepath.Join(disk, "filler")
	acknowledged := 0
	createNext := func() error {
		err := s.CreateKey(t.Context(), keyOf(fmt.Sprintf("%08d", acknowledged), "acme"), AuditEntry{})
		if err == nil {
			acknowledged++
		}
		return err
	}
	for range 3 { // full and healed, time and again
		fill(t, filler)
		for err = nil; err == nil && acknowledged < 10_000; {
			err = createNext()
		}
		if err == nil || !strings.Contains(err.Error(), "the disk is full; nothing was changed") {
			t.Fatalf("after %d keys: %v", acknowledged, err)
		}
		if keys := list(t, s, ""); len(keys) != acknowledged {
			t.Errorf("at a full disk %d keys are there, %d were acknowledged", len(keys), acknowledged)
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		if err := createNext(); err != nil {
			t.Errorf("once there was room again: %v", err)
		}
	}
	if _, err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if keys := list(t, s, ""); len(keys) != acknowledged {
		t.Errorf("%d keys are there, %d were acknowledged", len(keys), acknowledged)
	}
}
