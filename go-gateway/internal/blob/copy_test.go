package blob

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func TestABlobIsMadeOneOfAnotherFolderToo(t *testing.T) {
	for name, transfer := range map[string]func(f, other *Folder, id ID) error{
		"link": func(f, other *Folder, id ID) error { return f.LinkTo(t.Context(), other, id) },
		"copy": func(f, other *Folder, id ID) error { return f.CopyTo(t.Context(), other, id) },
	} {
		f, other := folderOf(t, t.TempDir()), folderOf(t, t.TempDir())
		id := put(t, f, "0123456789")
		if err := os.MkdirAll(other.path+"/blobs/"+id.String()[:2], 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(other.blob(id), []byte("torn"), 0o600); err != nil { // is replaced
			t.Fatal(err)
		}
		for range 2 {
			if err := transfer(f, other, id); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := other.Verify(t.Context(), id); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if entries, err := os.ReadDir(other.temporaries()); err != nil || len(entries) > 0 {
			t.Errorf("%s left %v, %v", name, entries, err)
		}
		if err := transfer(f, other, ID{}); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s of nothing: %v", name, err)
		}
	}
}

func TestADamagedBlobIsFound(t *testing.T) {
	f, other := folderOf(t, t.TempDir()), folderOf(t, t.TempDir())
	id := put(t, f, "good")
	if err := os.WriteFile(f.blob(id), []byte("evil"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Verify(t.Context(), id); !errors.Is(err, ErrDamaged) {
		t.Errorf("verified: %v", err)
	}
	if err := f.CopyTo(t.Context(), other, id); !errors.Is(err, ErrDamaged) {
		t.Errorf("copied: %v", err)
	}
	nothingIsLeft(t, other)
}

func TestADraftThatIsNotKeptLeavesNothing(t *testing.T) {
	f := folderOf(t, t.TempDir())
	draft, err := f.Write(t.Context(), reads(func([]byte) (int, error) { return 0, errors.New("torn") }), limit)
	if err == nil {
		t.Fatal(draft)
	}
	if draft, err = f.Write(t.Context(), strings.NewReader("content"), limit); err != nil || draft.Size != 7 {
		t.Fatalf("%+v, %v", draft, err)
	}
	if _, err := f.Size(draft.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("there before it is kept: %v", err)
	}
	draft.Discard()
	nothingIsLeft(t, f)
}

func unused(context.Context, ID) (bool, error) { return false, nil }

// TestNothingIsSweptDuringAHold though puts go on; nor during a put, which holds the same lock.
func TestNothingIsSweptDuringAHold(t *testing.T) {
	f := folderOf(t, t.TempDir())
	id := put(t, f, "unused")
	age(t, f.blob(id), 2*Grace)
	sweep := func() int {
		deleted, err := f.Sweep(t.Context(), time.Now(), All, unused)
		if err != nil {
			t.Error(err)
		}
		return deleted
	}
	err := f.Hold(func() error {
		put(t, f, "meanwhile")
		if deleted := sweep(); deleted != 0 {
			t.Errorf("%d deleted", deleted)
		}
		return nil
	})
	if deleted := sweep(); err != nil || deleted != 1 {
		t.Errorf("%d deleted afterwards, %v", deleted, err)
	}
}
