package store

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// A data folder that this process can only read: a snapshot, a backup's medium, a volume that is mounted read-only, beside
// whose reader a gateway may write through another mount.

// lockUnchanged locks a database that cannot be written from here. Where it has no journal it can be read only if nobody
// writes meanwhile, since a journal's index cannot be made here: others then wait. Nil: nobody has ever locked it.
func lockUnchanged(ctx context.Context, folder, path string) (*os.File, error) {
	for {
		how := syscall.LOCK_SH
		if !hasJournal(path) {
			how = syscall.LOCK_EX
		}
		lock, err := waitFor(ctx, folder, func() (*os.File, error) { return tryLockOpened(folder, databaseLock, os.O_RDONLY, how) })
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil || how == syscall.LOCK_SH || !hasJournal(path) {
			return lock, err
		}
		lock.Close() // the last one who wrote did not end well, and left a journal
	}
}

func hasJournal(path string) bool {
	_, err := os.Lstat(path + "-wal")
	return err == nil
}

// connectReadOnly opens a database that cannot be written from here.
func (s *Store) connectReadOnly(path string) (err error) {
	source := sqliteSource(path) + "&mode=ro"
	if !hasJournal(path) {
		source += "&immutable=1"
	} else if _, err := os.Lstat(path + "-shm"); errors.Is(err, fs.ErrNotExist) {
		return configError("%s has a journal without its index, which cannot be made in a folder that is read-only: "+
			"copy the folder %s to where it can be written, and name the copy (--data)", path, filepath.Dir(path))
	}
	s.w, err = sql.Open("sqlite", source)
	if err != nil {
		return err
	}
	s.w.SetMaxOpenConns(1)
	s.r, err = sql.Open("sqlite", source)
	if err != nil {
		return err
	}
	s.r.SetMaxOpenConns(sqliteReaders)
	return s.explain(s.w.Ping())
}

// checkWritable finds whether a gateway could write, and changes nothing.
func (s *Store) checkWritable(ctx context.Context, options Options) error {
	if options.Postgres() {
		return s.checkPostgresWritable(ctx)
	}
	for _, path := range []string{options.Data, filepath.Join(options.Data, databaseFile)} {
		const write = 2 // W_OK
		if err := syscall.Access(path, write); err != nil {
			return unusable(&fs.PathError{Op: "write", Path: path, Err: err})
		}
	}
	return nil
}
