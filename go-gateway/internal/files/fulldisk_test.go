//go:build linux

package files

import (
	"bytes"
	"strings"
	"syscall"
	"testing"

	"triptych.dev/gateway/internal/fault"
)

// TestAFullDisk refuses uploads, keeps what there is, and heals without a restart.
func TestAFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=8388608"); err != nil {
		t.Skipf("LOUD: no file system may be mounted here (%v): a full disk is NOT tested", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	k := keep(t, disk)
	data := About{Purpose: UserData, Name: "a"}
	first, err := k.upload(strings.NewReader("acknowledged"), data)
	if err != nil {
		t.Fatal(err)
	}
	for _, reserve := range []int64{0, 1 << 20} { // the disk says it, or we do before that
		k.MinFree = reserve
		for range 2 {
			_, err := k.upload(bytes.NewReader(make([]byte, 16<<20)), data)
			k.checkReason(err, fault.StorageFull)
		}
		if _, err := k.upload(strings.NewReader("there is room again"), data); err != nil {
			t.Error(err)
		}
	}
	if _, content, err := k.Open(t.Context(), "acme", first.ID); err != nil {
		t.Error(err)
	} else {
		content.Close()
	}
	if k.blobs() != 2 {
		t.Errorf("%d blobs", k.blobs())
	}
}
