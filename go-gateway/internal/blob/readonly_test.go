//go:build linux

package blob

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"triptych.dev/gateway/internal/testkit"
)

func TestAFolderThatBecomesReadOnlyHeals(t *testing.T) {
	f := folderOf(t, t.TempDir())
	kept := put(t, f, "kept")
	for range 2 {
		if err := f.CheckAgain(); err != nil {
			t.Errorf("before: %v", err)
		}
		unmount := testkit.MountReadOnly(t, f.path, f.path)
		if err := f.CheckAgain(); err != nil {
			t.Errorf("it was looked for a fault that nobody has met: %v", err)
		}
		if _, _, err := f.Put(t.Context(), strings.NewReader("more"), 10); !errors.Is(err, ErrUnwritable) {
			t.Errorf("put: %v", err)
		}
		for _, check := range []func() error{f.CheckAgain, f.CheckWritable} {
			if err := check(); !errors.Is(err, ErrUnwritable) {
				t.Errorf("checked: %v", err)
			}
		}
		if err := f.Verify(t.Context(), kept); err != nil {
			t.Errorf("read: %v", err)
		}
		unmount()
		if err := f.CheckAgain(); err != nil {
			t.Errorf("after: %v", err)
		}
		put(t, f, "there is no fault any more")
		if left, err := os.ReadDir(f.temporaries()); err != nil || len(left) != 0 {
			t.Errorf("left %v, %v", left, err)
		}
	}
}

// Who only reads makes nothing, and waits for a sweep as others do.
func TestAFolderThatCanOnlyBeRead(t *testing.T) {
	there := folderOf(t, t.TempDir())
	kept := put(t, there, "kept")
	for range 2 { // also where nobody has ever locked it
		place := t.TempDir()
		unmount := testkit.MountReadOnly(t, there.path, place)
		f := ExistingFolder(place)
		target := folderOf(t, t.TempDir())
		if err := f.Hold(func() error { return f.LinkTo(t.Context(), target, kept) }); err != nil {
			t.Error(err)
		}
		if err := target.Verify(t.Context(), kept); err != nil {
			t.Error(err)
		}
		unmount()
		_ = os.Remove(filepath.Join(there.path, lockFile))
	}
}

func TestAnEmptyFolderIsReadAsOneWithoutBlobs(t *testing.T) {
	place := t.TempDir()
	if err := ExistingFolder(place).Each(t.Context(), func(ID) error { return errors.New("one") }); err != nil {
		t.Error(err)
	}
	if names, err := os.ReadDir(place); err != nil || len(names) != 0 {
		t.Errorf("it made %v, %v", names, err)
	}
}
