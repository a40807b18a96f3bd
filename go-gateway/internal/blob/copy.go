package blob

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// LinkTo makes a blob one of another folder too, without a copy where both are on one file system. Blobs never change, so
// that they may be shared. One that is there already, and is as long, stays.
func (f *Folder) LinkTo(ctx context.Context, other *Folder, id ID) error {
	if there, err := f.sameIn(other, id); there || err != nil {
		return err
	}
	name := filepath.Join(other.temporaries(), fmt.Sprintf("link-%s-%d", id, os.Getpid()))
	if err := os.Link(f.blob(id), name); err != nil {
		return f.CopyTo(ctx, other, id)
	}
	err := explain(other.keep(name, id))
	os.Remove(name) // where it was not kept
	return err
}

// CopyTo makes a copy of a blob in another folder, and fails with ErrDamaged where it is not what its name says. One that
// is there already, and is as long, stays.
func (f *Folder) CopyTo(ctx context.Context, other *Folder, id ID) error {
	if there, err := f.sameIn(other, id); there || err != nil {
		return err
	}
	file, err := f.Open(id)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	draft, err := other.Write(ctx, file, info.Size())
	if err != nil {
		return err
	}
	defer draft.Discard()
	if draft.ID != id {
		return fmt.Errorf("%w: %s", ErrDamaged, file.Name())
	}
	return draft.Keep()
}

// sameIn reports whether another folder has the blob, as long as it is here; ErrNotFound where it is not here.
func (f *Folder) sameIn(other *Folder, id ID) (bool, error) {
	size, err := f.Size(id)
	if err != nil {
		return false, err
	}
	there, err := other.Size(id)
	return err == nil && there == size, nil
}
