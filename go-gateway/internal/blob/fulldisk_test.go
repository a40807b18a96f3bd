//go:build linux

package blob

import (
	"bytes"
	"errors"
	"testing"

	"triptych.dev/gateway/internal/testkit"
)

// TestAFullDisk is told as such, leaves nothing, and heals without a restart.
func TestAFullDisk(t *testing.T) {
	f := folderOf(t, testkit.SmallDisk(t, 1<<20))
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
