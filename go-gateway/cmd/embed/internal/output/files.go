// Package output writes files that are there whole or not at all.
package output

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"

	"triptych.dev/gateway/internal/disk"
)

// suffix is that of a file that is being written.
const suffix = ".partial"

// Draft is a file that is being written. Only one process may write to a place.
type Draft struct {
	*bufio.Writer
	path string
	file *os.File
}

// Create begins a draft in place of what was left of an earlier one.
func Create(path string) (*Draft, error) {
	file, err := os.OpenFile(path+suffix, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o666)
	if err != nil {
		return nil, err
	}
	return &Draft{bufio.NewWriterSize(file, 1<<20), path, file}, nil
}

// Finish has everything on disk, and nothing in place yet.
func (d *Draft) Finish() error {
	return errors.Join(d.Flush(), d.file.Sync(), d.file.Close())
}

// Place has the draft take its place. The folder is to be synced.
func (d *Draft) Place() error { return os.Rename(d.path+suffix, d.path) }

// Discard removes it.
func (d *Draft) Discard() {
	_ = d.file.Close()
	_ = os.Remove(d.path + suffix)
}

// WriteFile writes a file at once.
func WriteFile(path string, content []byte) error {
	draft, err := Create(path)
	if err != nil {
		return err
	}
	_, err = draft.Write(content)
	if err := errors.Join(err, draft.Finish()); err != nil {
		draft.Discard()
		return err
	}
	return errors.Join(draft.Place(), disk.SyncFolder(filepath.Dir(path)))
}
