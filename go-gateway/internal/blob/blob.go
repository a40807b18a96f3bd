// Package blob keeps bodies in a folder, each under the hash of its content. What a body is for, and whose it is, stands
// in rows of the store: a blob is put first and its row is written then; a row is deleted first and its blob is swept then.
//
// It must not depend on other packages of the gateway.
package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"triptych.dev/gateway/internal/disk"
)

// Errors that callers tell apart.
var (
	ErrNotFound = errors.New("no such blob")
	ErrFull     = errors.New("the disk is full")
	// ErrUnwritable means that what is there can be read, as far as the disk works, and nothing can be put.
	ErrUnwritable = errors.New("the folder cannot be written now")
	ErrTooLarge   = errors.New("the content is larger than allowed")
	ErrDamaged    = errors.New("the blob's content is not what its name says")
)

// ID is the SHA-256 of the content. Paths are made from it alone, so that no name from outside reaches the file system.
type ID [sha256.Size]byte

// String returns the hash in hex.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads what String wrote.
func ParseID(text string) (ID, error) {
	var id ID
	if len(text) != hex.EncodedLen(len(id)) {
		return ID{}, fmt.Errorf("a blob's hash has %d digits", hex.EncodedLen(len(id)))
	}
	if _, err := hex.Decode(id[:], []byte(text)); err != nil {
		return ID{}, fmt.Errorf("a blob's hash: %w", err)
	}
	return id, nil
}

const (
	blobsFolder     = "blobs"
	temporaryFolder = "tmp" // on the same file system: a rename must do
	lockFile        = "lock"
)

// Folder is a folder of blobs. It may be used by several goroutines, and by several processes, at once.
type Folder struct {
	path string
	// failed says that something could not be written for another reason than want of room.
	failed atomic.Bool
}

// OpenFolder makes the folder where there is none.
func OpenFolder(path string) (*Folder, error) {
	for _, folder := range []string{path, filepath.Join(path, blobsFolder), filepath.Join(path, temporaryFolder)} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, explain(err)
		}
	}
	for _, folder := range []string{path, filepath.Dir(path)} {
		if err := disk.SyncFolder(folder); err != nil {
			return nil, explain(err)
		}
	}
	return &Folder{path: path}, nil
}

// ExistingFolder is a folder that is there, for who only reads: nothing is made.
func ExistingFolder(path string) *Folder { return &Folder{path: path} }

// CheckWritable fails where nothing can be put.
func (f *Folder) CheckWritable() error {
	file, err := os.CreateTemp(f.temporaries(), "put-*")
	if err != nil {
		return f.noted(err)
	}
	f.failed.Store(false)
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

// CheckAgain is CheckWritable once something could not be written, until it can; before that, and after it, it costs nothing.
func (f *Folder) CheckAgain() error {
	if !f.failed.Load() {
		return nil
	}
	return f.CheckWritable()
}

// noted explains an error of writing.
func (f *Folder) noted(err error) error {
	if err = explain(err); errors.Is(err, ErrUnwritable) {
		f.failed.Store(true)
	}
	return err
}

// Open opens a blob, for ReadAt too. The caller closes it; it can be read to its end even if it is deleted meanwhile.
func (f *Folder) Open(id ID) (*os.File, error) {
	file, err := os.Open(f.blob(id))
	return file, explain(err)
}

// Size returns how long a blob is, or ErrNotFound.
func (f *Folder) Size(id ID) (int64, error) {
	info, err := os.Stat(f.blob(id))
	if err != nil {
		return 0, explain(err)
	}
	return info.Size(), nil
}

// Verify reads a blob to its end, and fails with ErrDamaged where its content is another one.
func (f *Folder) Verify(ctx context.Context, id ID) error {
	file, err := f.Open(id)
	if err != nil {
		return err
	}
	defer file.Close()
	found, _, err := write(ctx, io.Discard, file, math.MaxInt64)
	if err == nil && found != id {
		err = fmt.Errorf("%w: %s", ErrDamaged, file.Name())
	}
	return err
}

// Free returns how many bytes may still be written to the file system.
func (f *Folder) Free() (int64, error) { return disk.Free(f.path) }

func (f *Folder) temporaries() string { return filepath.Join(f.path, temporaryFolder) }

func (f *Folder) blob(id ID) string {
	digits := id.String()
	return filepath.Join(f.path, blobsFolder, digits[:2], digits[2:])
}

// Hold runs what needs that no blob is swept meanwhile. Puts go on.
func (f *Folder) Hold(run func() error) error { return f.locked(syscall.LOCK_SH, run) }

// locked runs a change of names. Puts share the lock (LOCK_SH); a sweep has it alone (LOCK_EX) while it looks at a blob's
// age and deletes it, so that it never deletes what was put again in between.
func (f *Folder) locked(how int, change func() error) error {
	path := filepath.Join(f.path, lockFile)
	lock, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if how == syscall.LOCK_SH && (errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission)) { // who only reads
		if lock, err = os.Open(path); errors.Is(err, fs.ErrNotExist) {
			return change() // nobody has ever put anything
		}
	}
	if err != nil {
		return err
	}
	defer lock.Close() // gives the lock back
	for {
		if err = syscall.Flock(int(lock.Fd()), how); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return err
	}
	return change()
}

// explain gives errors of the file system the types that callers tell apart.
func explain(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EIO):
		return fmt.Errorf("%w: %w", ErrUnwritable, err)
	}
	return err
}
