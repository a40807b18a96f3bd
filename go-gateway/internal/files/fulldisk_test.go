//go:build linux

package files

import (
	"bytes"
	"strings"
	"testing"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/testkit"
)

// TestAFullDisk refuses uploads, keeps what there is, and heals without a restart.
func TestAFullDisk(t *testing.T) {
	k := keep(t, testkit.SmallDisk(t, 8<<20))
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
