package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const limit = 1 << 20

func folderOf(t *testing.T, path string) *Folder {
	t.Helper()
	f, err := OpenFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func put(t *testing.T, f *Folder, content string) ID {
	t.Helper()
	id, size, err := f.Put(t.Context(), strings.NewReader(content), limit)
	if err != nil || size != int64(len(content)) || id != sha256.Sum256([]byte(content)) {
		t.Fatalf("%v, %d bytes, %v", id, size, err)
	}
	return id
}

// nothingIsLeft of a put that failed.
func nothingIsLeft(t *testing.T, f *Folder) {
	t.Helper()
	for _, pattern := range []string{"tmp/*", "blobs/*/*"} {
		if names, _ := filepath.Glob(filepath.Join(f.path, pattern)); len(names) > 0 {
			t.Errorf("left: %v", names)
		}
	}
}

func age(t *testing.T, path string, by time.Duration) {
	t.Helper()
	then := time.Now().Add(-by)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
}

func TestABlobIsReadAsItWasPut(t *testing.T) {
	f := folderOf(t, filepath.Join(t.TempDir(), "data"))
	file, err := f.Open(put(t, f, "0123456789"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	part := make([]byte, 3)
	if _, err := file.ReadAt(part, 4); err != nil || string(part) != "456" {
		t.Errorf("%q, %v", part, err)
	}
	if _, err := f.Open(ID{}); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	for _, text := range []string{"", "../../etc/passwd", strings.Repeat("/", 64)} {
		if _, err := ParseID(text); err == nil {
			t.Errorf("%q was taken for a hash", text)
		}
	}
}

// reads is a content that calls a function for each Read.
type reads func(p []byte) (int, error)

func (r reads) Read(p []byte) (int, error) { return r(p) }

func TestAFailedPutLeavesNothing(t *testing.T) {
	f := folderOf(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	torn := errors.New("torn")
	count := 0
	for name, test := range map[string]struct {
		content io.Reader
		want    error
	}{
		"too large": {bytes.NewReader(make([]byte, limit+1)), ErrTooLarge},
		"torn":      {io.MultiReader(strings.NewReader("x"), reads(func([]byte) (int, error) { return 0, torn })), torn},
		"cancelled": {reads(func(p []byte) (int, error) {
			if count++; count == 3 {
				cancel()
			}
			return len(p), nil
		}), context.Canceled},
	} {
		c := t.Context()
		if name == "cancelled" {
			c = ctx
		}
		if _, _, err := f.Put(c, test.content, limit); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
		nothingIsLeft(t, f)
	}
}

func TestPutsOfTheSameContentAtOnce(t *testing.T) {
	f := folderOf(t, t.TempDir())
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			if _, _, err := f.Put(t.Context(), strings.NewReader("same"), limit); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if names, _ := filepath.Glob(filepath.Join(f.path, "*", "*", "*")); len(names) != 1 {
		t.Errorf("there are %v", names)
	}
}

func TestASweepTakesWhatIsOldAndUnused(t *testing.T) {
	f := folderOf(t, t.TempDir())
	used, unused, young := put(t, f, "used"), put(t, f, "unused"), put(t, f, "young")
	torn, running := filepath.Join(f.temporaries(), "put-1"), filepath.Join(f.temporaries(), "put-2")
	for _, path := range []string{torn, running} {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{f.blob(used), f.blob(unused), torn} {
		age(t, path, 2*Grace)
	}
	deleted, err := f.Sweep(t.Context(), time.Now(), All, func(_ context.Context, id ID) (bool, error) { return id == used, nil })
	if err != nil || deleted != 1 {
		t.Errorf("%d deleted, %v", deleted, err)
	}
	for path, want := range map[string]bool{f.blob(used): true, f.blob(unused): false, f.blob(young): true, torn: false, running: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := f.DropTemporaries(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(running); err == nil {
		t.Error("a temporary outlived the start")
	}
}

// TestASweepLeavesWhatIsPutAgain between its look at the rows and its deletion: that row is about to be written.
func TestASweepLeavesWhatIsPutAgain(t *testing.T) {
	f := folderOf(t, t.TempDir())
	id := put(t, f, "again")
	age(t, f.blob(id), 2*Grace)
	deleted, err := f.Sweep(t.Context(), time.Now(), All, func(context.Context, ID) (bool, error) {
		put(t, f, "again")
		return false, nil
	})
	if _, openErr := os.Stat(f.blob(id)); err != nil || deleted != 0 || openErr != nil {
		t.Errorf("%d deleted, %v, %v", deleted, err, openErr)
	}
}
