//go:build linux

package store

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"triptych.dev/gateway/internal/testkit"
)

// TestAFullDiskHeals without a restart, and loses nothing that was acknowledged.
func TestAFullDiskHeals(t *testing.T) {
	disk := testkit.SmallDisk(t, 4<<20)
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
	acknowledged := 0
	createNext := func() error {
		err := s.CreateKey(t.Context(), keyOf(fmt.Sprintf("%08d", acknowledged), "acme"), AuditEntry{}, nil)
		if err == nil {
			acknowledged++
		}
		return err
	}
	for range 3 { // full and healed, time and again
		room := testkit.Fill(t, disk)
		for err = nil; err == nil && acknowledged < 10_000; {
			err = createNext()
		}
		if err == nil || !strings.Contains(err.Error(), "the disk is full; nothing was changed") {
			t.Fatalf("after %d keys: %v", acknowledged, err)
		}
		if keys := list(t, s, ""); len(keys) != acknowledged {
			t.Errorf("at a full disk %d keys are there, %d were acknowledged", len(keys), acknowledged)
		}
		room()
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
