package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"triptych.dev/gateway/internal/disk"
)

const (
	// reserveFile takes room beside SQLite's database that the store gives up when the disk is full: at a full disk not even
	// a row can be deleted.
	reserveFile  = "reserve"
	reserveBytes = 16 << 20
)

// reserve is the file; without a path there is none.
type reserve struct {
	mu   sync.Mutex
	path string
}

// KeepReserve makes the reserve where it is not there, and there is room for it and for so many bytes more. Only the gateway
// of a data folder has one.
func (s *Store) KeepReserve(beside int64) error {
	r := &s.reserve
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.path == "" {
		return nil
	}
	if _, err := os.Lstat(r.path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	free, err := disk.Free(filepath.Dir(r.path))
	if err != nil || free < beside+2*reserveBytes {
		return err
	}
	file, err := openPlain(r.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY)
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for range reserveBytes / len(block) {
		if _, err = file.Write(block); err != nil {
			break
		}
	}
	if err = errors.Join(err, file.Close()); err != nil { // half of one would be taken for a whole
		os.Remove(r.path)
	}
	return err
}

// giveUp removes the reserve, and reports whether that has made room.
func (r *reserve) giveUp() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.path != "" && os.Remove(r.path) == nil
}
