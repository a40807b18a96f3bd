//go:build linux

package store

import (
	"path/filepath"
	"strings"
	"testing"

	"triptych.dev/gateway/internal/testkit"
)

// What could not be finished for want of room is finished once there is some, by the same claim and with the same handles.
func TestAFullDiskPutsAFinishOff(t *testing.T) {
	disk := testkit.SmallDisk(t, 4<<20)
	s, err := Open(t.Context(), Options{Data: filepath.Join(disk, "data")}, Gateway)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // before the disk goes
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	s.PrepareEffects(t)
	addJobs(t, s, jobOf("a", "acme"))
	job := claimOne(t, s)
	room := testkit.Fill(t, disk)
	for err = nil; err == nil; { // the journal has some room of its own
		_, err = s.RenewJobs(t.Context(), []Job{job}, aLease)
	}
	if err := s.FinishWithEffect(t.Context(), job); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Fatalf("at a full disk: %v", err)
	}
	if effects := count(t, s.r, `SELECT count(*) FROM effect`); effects != 0 || findJob(t, s, "a").State != JobLeased {
		t.Errorf("%d effects, %+v", effects, findJob(t, s, "a"))
	}
	room()
	if err := s.FinishWithEffect(t.Context(), job); err != nil {
		t.Errorf("once there is room: %v", err)
	}
	if effects := count(t, s.r, `SELECT count(*) FROM effect`); effects != 1 {
		t.Errorf("%d effects", effects)
	}
}
