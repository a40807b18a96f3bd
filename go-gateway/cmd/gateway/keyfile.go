package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"triptych.dev/gateway/internal/disk"
	"triptych.dev/gateway/internal/identity"
)

// keyFile is a new file for a key, which its user alone can read. It has its name once the key is in it, and durable.
type keyFile struct {
	path string
	file *os.File
}

// newKeyFile makes one before there is a key: where none can be written, none is made. Where the name is taken, ErrExist.
func newKeyFile(path string) (*keyFile, error) {
	_, err := os.Lstat(path)
	if err == nil {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrExist)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // of mode 600
	if err != nil {
		return nil, err
	}
	return &keyFile{path, file}, nil
}

// keep writes the key. A file that another one has made meanwhile is left as it is.
func (f *keyFile) keep(key identity.Secret) error {
	_, err := fmt.Fprintln(f.file, key.Reveal())
	if err = errors.Join(err, f.file.Sync(), f.file.Close()); err != nil {
		return err
	}
	if err := os.Link(f.file.Name(), f.path); err != nil {
		return err
	}
	return disk.SyncFolder(filepath.Dir(f.path))
}

// remove is for the end, whatever became of it.
func (f *keyFile) remove() {
	_ = f.file.Close()
	_ = os.Remove(f.file.Name())
}
