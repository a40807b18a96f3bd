//go:build linux

package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"triptych.dev/gateway/internal/testkit"
)

// TestAtAFullDiskFilesCanBeDeleted, which is what makes room.
func TestAtAFullDiskFilesCanBeDeleted(t *testing.T) {
	disk := testkit.SmallDisk(t, 64<<20)
	s, err := Open(t.Context(), Options{Data: filepath.Join(disk, "data")}, Gateway)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // before the disk goes
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	held := filepath.Join(disk, "data", reserveFile)
	there := func() bool {
		info, err := os.Lstat(held)
		return err == nil && info.Size() == reserveBytes && info.Mode().Perm() == 0o600
	}
	if !there() {
		t.Fatal("there is no reserve")
	}
	for n := range 2 { // time and again
		addOne(t, s, "acme", fileOf(n))
		room := testkit.Fill(t, disk)
		if err := exhaust(t, s); !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		if err := s.KeepReserve(0); err != nil || n == 0 && !there() {
			t.Errorf("%v; it is there: %v", err, there())
		}
		if err := s.DeleteFile(t.Context(), "acme", fileOf(n).ID); err != nil {
			t.Errorf("at a full disk: %v", err)
		}
		if there() {
			t.Error("the reserve was not given up")
		}
		room()
		if err := s.KeepReserve(1 << 30); err != nil || there() {
			t.Errorf("kept where there is no room beside it: %v", err)
		}
		if err := s.KeepReserve(0); err != nil || !there() {
			t.Errorf("with room it is kept again: %v", err)
		}
	}
	if used, err := s.FileUsage(t.Context(), "acme"); err != nil || used.Files != 0 {
		t.Errorf("%+v, %v", used, err)
	}
	if _, err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// exhaust writes until the journal has no room of its own left, and leaves the reserve.
func exhaust(t *testing.T, s *Store) (err error) {
	t.Helper()
	for n := 0; err == nil && n < 100_000; n++ {
		_, err = s.w.Exec(`INSERT INTO change_counter VALUES ($1, 0)`, n)
	}
	execErr := s.explain(err)
	_, _ = s.w.Exec(`DELETE FROM change_counter WHERE topic <> 'keys'`)
	return execErr
}

func TestOnlyTheGatewayOfAFolderHasAReserve(t *testing.T) {
	options := embedded(t)
	s := open(t, options, Command)
	if err := s.KeepReserve(0); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(options.Data, reserveFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
