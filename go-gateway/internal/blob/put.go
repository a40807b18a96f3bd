package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"triptych.dev/gateway/internal/disk"
)

// chunk is how much of a content is in memory at once.
const chunk = 64 << 10

// Draft is a content that was written, and has no name yet. It is kept or discarded.
type Draft struct {
	ID   ID
	Size int64

	folder *Folder
	path   string // of the temporary
}

// Put keeps a content, as Write and Keep do.
func (f *Folder) Put(ctx context.Context, content io.Reader, limit int64) (id ID, size int64, err error) {
	draft, err := f.Write(ctx, content, limit)
	if err != nil {
		return ID{}, 0, err
	}
	defer draft.Discard()
	return draft.ID, draft.Size, draft.Keep()
}

// Write writes a content of at most limit bytes, and syncs it. After an error nothing is left of it; errors of content
// itself are returned as they are. A Read that blocks must be ended by the caller.
func (f *Folder) Write(ctx context.Context, content io.Reader, limit int64) (_ *Draft, err error) {
	file, err := os.CreateTemp(f.temporaries(), "put-*")
	if err != nil {
		return nil, f.noted(err)
	}
	defer func() {
		if err != nil {
			os.Remove(file.Name()) // if that fails, the sweep does it
		}
	}()
	id, size, err := write(ctx, file, content, limit)
	if errors.Is(err, ErrUnwritable) {
		f.failed.Store(true)
	}
	if err == nil {
		err = f.noted(file.Sync())
	}
	if closed := file.Close(); err == nil { // a file system over the network may tell of a full disk only now
		err = f.noted(closed)
	}
	if err != nil {
		return nil, err
	}
	return &Draft{id, size, f, file.Name()}, nil
}

// Keep makes a blob of the draft. When it returns without an error, the content lasts.
func (d *Draft) Keep() error {
	if err := d.folder.noted(d.folder.keep(d.path, d.ID)); err != nil {
		return err
	}
	d.path = ""
	return nil
}

// Discard leaves nothing of a draft that was not kept.
func (d *Draft) Discard() {
	if d.path != "" {
		os.Remove(d.path) // if that fails, the sweep does it
	}
}

// keep gives a temporary its name. A blob of the same content is replaced, which makes it young again: a sweep leaves it.
func (f *Folder) keep(temporary string, id ID) error {
	path := f.blob(id)
	return f.locked(syscall.LOCK_SH, func() error {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.Rename(temporary, path); err != nil {
			return err
		}
		// Also the folder above, always: whoever made this one may not have come to that yet.
		return errors.Join(disk.SyncFolder(filepath.Dir(path)), disk.SyncFolder(filepath.Dir(filepath.Dir(path))))
	})
}

func write(ctx context.Context, to io.Writer, content io.Reader, limit int64) (id ID, size int64, err error) {
	hash := sha256.New()
	buffer := make([]byte, chunk)
	for {
		if err := ctx.Err(); err != nil {
			return ID{}, 0, err
		}
		n, readErr := content.Read(buffer)
		if size += int64(n); size > limit {
			return ID{}, 0, ErrTooLarge
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return ID{}, 0, explain(err)
		}
		hash.Write(buffer[:n])
		if readErr == io.EOF {
			return ID(hash.Sum(nil)), size, nil
		}
		if readErr != nil {
			return ID{}, 0, readErr
		}
	}
}
