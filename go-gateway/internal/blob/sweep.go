package blob

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Grace is for how long a blob may wait for its row, and a temporary for its next byte.
const Grace = time.Hour

// batch is how many names of a folder are in memory at once.
const batch = 256

// DropTemporaries deletes what earlier processes left half-written. Only who has the folder alone may call it.
func (f *Folder) DropTemporaries() error {
	return f.sweepTemporaries(context.Background(), time.Time{})
}

// Part is one of so many parts of all blobs, by their hashes.
type Part struct{ N, Of int }

// All blobs.
var All = Part{0, 1}

func (p Part) has(id ID) bool { return int(id[0])%p.Of == p.N }

// Sweep deletes temporaries, and those of a part's blobs that nothing refers to, if they were last written more than Grace
// before now. It returns how many blobs it deleted. One that cannot be deleted does not keep the others.
func (f *Folder) Sweep(ctx context.Context, now time.Time, part Part, referenced func(context.Context, ID) (bool, error)) (int, error) {
	before := now.Add(-Grace)
	err := f.sweepTemporaries(ctx, before)
	deleted := 0
	err = errors.Join(err, f.walk(ctx, part, func(id ID) error {
		if old, err := olderThan(f.blob(id), before); err != nil || !old {
			return err
		}
		if used, err := referenced(ctx, id); err != nil || used {
			return err
		}
		err := f.locked(syscall.LOCK_EX|syscall.LOCK_NB, func() error {
			old, err := olderThan(f.blob(id), before) // again: it may have been put meanwhile
			if err != nil || !old {
				return err
			}
			if err := os.Remove(f.blob(id)); err != nil {
				return err
			}
			deleted++
			return nil
		})
		if errors.Is(err, syscall.EWOULDBLOCK) { // something is put just now, or a backup is made: the next sweep does it
			return nil
		}
		return err
	}))
	return deleted, err
}

// Each visits all blobs, in no order. It returns the first error of a visit.
func (f *Folder) Each(ctx context.Context, visit func(ID) error) error {
	return f.walk(ctx, All, visit)
}

// walk visits a part's blobs, in no order, and returns the first error of a visit.
func (f *Folder) walk(ctx context.Context, part Part, visit func(ID) error) error {
	root := filepath.Join(f.path, blobsFolder)
	if _, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was put yet
	}
	return each(ctx, root, func(prefix fs.DirEntry) error {
		if first, err := hex.DecodeString(prefix.Name()); err != nil || len(first) != 1 || !part.has(ID{first[0]}) {
			return nil // not ours, or not now
		}
		return each(ctx, filepath.Join(root, prefix.Name()), func(entry fs.DirEntry) error {
			id, err := ParseID(prefix.Name() + entry.Name())
			if err != nil {
				return nil // not ours
			}
			return visit(id)
		})
	})
}

// sweepTemporaries deletes those that were last written before a time; with the zero time, all.
func (f *Folder) sweepTemporaries(ctx context.Context, before time.Time) error {
	return each(ctx, f.temporaries(), func(entry fs.DirEntry) error {
		path := filepath.Join(f.temporaries(), entry.Name())
		if !before.IsZero() {
			if old, err := olderThan(path, before); err != nil || !old {
				return err
			}
		}
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

func olderThan(path string, before time.Time) (bool, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.ModTime().Before(before), err
}

// each visits a folder's entries, some at a time.
func each(ctx context.Context, path string, visit func(fs.DirEntry) error) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer folder.Close()
	var failed error // the first
	for {
		entries, err := folder.ReadDir(batch)
		for _, entry := range entries {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := visit(entry); err != nil && failed == nil {
				failed = err
			}
		}
		if err == io.EOF {
			return failed
		}
		if err != nil {
			return err
		}
	}
}
