package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Files of a data folder.
const (
	databaseFile = "gateway.db"
	// gatewayLock is held by the one gateway that serves from the folder.
	gatewayLock = "lock"
	// databaseLock is held shared by whoever has the database open, and alone by whoever makes, migrates or replaces it.
	databaseLock = "database.lock"
)

// lockPoll is how often a lock is tried that another process holds.
const lockPoll = 10 * time.Millisecond

// locks are files that are locked. The system drops the locks with the process.
type locks []*os.File

func (l locks) close() error {
	var err error
	for _, file := range l {
		err = errors.Join(err, file.Close())
	}
	return err
}

// prepareFolder makes the data folder, or checks the one that is there: it is its owner's alone, and nothing in it leads
// elsewhere.
func prepareFolder(folder string, create bool) error {
	if create {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return unusable(err)
		}
	}
	info, err := os.Stat(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return configError("there is no data folder %s; `gateway keys create --tenant NAME` makes it", folder)
	}
	if err != nil {
		return configError("the data folder: %w", err)
	}
	if !info.IsDir() {
		return configError("the data folder %s is not a folder", folder)
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := closeToOthers(folder, 0o700, create); errors.Is(err, syscall.EROFS) {
			return unusable(err)
		} else if err != nil {
			return configError("the data folder %s is open to others (mode %04o), and that cannot be changed: "+
				"name a folder inside of it, which is then made: %w", folder, info.Mode().Perm(), err)
		}
	}
	for _, name := range []string{databaseFile, databaseFile + "-wal", databaseFile + "-shm", databaseFile + "-journal"} {
		if err := checkFile(filepath.Join(folder, name), create); err != nil {
			return err
		}
	}
	return nil
}

// checkFile refuses what is no plain file, as a symbolic link, and closes the file to others.
func checkFile(path string, write bool) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return configError("the data folder: %w", err)
	case !info.Mode().IsRegular():
		return configError("%s must be a plain file, not a link or a folder: remove it, or name another data folder", path)
	case info.Mode().Perm()&0o077 != 0:
		if err := closeToOthers(path, 0o600, write); err != nil {
			return configError("%s is open to others, and that cannot be changed: %w", path, err)
		}
	}
	return nil
}

// closeToOthers changes a mode. Who only reads takes it as it is where nothing can be changed.
func closeToOthers(path string, mode fs.FileMode, write bool) error {
	err := os.Chmod(path, mode)
	if errors.Is(err, syscall.EROFS) && !write {
		return nil
	}
	return err
}

// cannotWrite reports whether an error is that of a place where this process may only read.
func cannotWrite(err error) bool {
	return errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission)
}

// unusable says what to do about a data folder that cannot be used, or only be read.
func unusable(err error) error {
	switch {
	case errors.Is(err, syscall.EROFS):
		return configError("the data folder: %w: its file system is read-only: mount it for writing, or name another folder (--data); "+
			"`gateway data backup` and other commands that only read do with it: %w", ErrUnwritable, err)
	case errors.Is(err, fs.ErrPermission):
		return configError("the data folder: %w by user %d: give it to that user, or name another folder (--data): %w", ErrUnwritable, os.Geteuid(), err)
	default:
		return configError("the data folder cannot be used: %w", err)
	}
}

// openPlain opens or makes a file that only its owner may use. A symbolic link is refused.
func openPlain(path string, flags int) (*os.File, error) {
	file, err := os.OpenFile(path, flags|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600) // of a pipe, opening would wait
	if errors.Is(err, syscall.ELOOP) {
		return nil, configError("%s is a symbolic link: remove it, or name another data folder", path)
	}
	if err != nil {
		return nil, unusable(err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = configError("%s must be a plain file: remove it, or name another data folder", path)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// errHeld means that another process has the lock.
var errHeld = errors.New("another process has the lock")

// tryLock locks a file of the folder without waiting, with LOCK_SH or LOCK_EX. A failed open leaves nothing behind.
func tryLock(folder, name string, how int) (*os.File, error) {
	return tryLockOpened(folder, name, os.O_CREATE|os.O_RDWR, how)
}

func tryLockOpened(folder, name string, flags, how int) (*os.File, error) {
	file, err := openPlain(filepath.Join(folder, name), flags)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), how|syscall.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errHeld
		}
		return nil, configError("%s cannot be locked; the data folder must be on a local file system: %w", file.Name(), err)
	}
	return file, nil
}

// waitLock locks a file of the folder, and waits for whoever has it until ctx ends.
func waitLock(ctx context.Context, folder, name string, how int) (*os.File, error) {
	return waitFor(ctx, folder, func() (*os.File, error) { return tryLock(folder, name, how) })
}

func waitFor(ctx context.Context, folder string, try func() (*os.File, error)) (*os.File, error) {
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for {
		file, err := try()
		if !errors.Is(err, errHeld) {
			return file, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the database in %s is in use by another command: %w", folder, ctx.Err())
		case <-ticker.C:
		}
	}
}

// lockGateway makes this process the one gateway of a data folder.
func lockGateway(folder, purpose string) (*os.File, error) {
	file, err := tryLock(folder, gatewayLock, syscall.LOCK_EX)
	if errors.Is(err, errHeld) {
		return nil, configError("a gateway is running on the data folder %s, and %s: stop that one first; "+
			"several gateways share a PostgreSQL database, by --database-url", folder, purpose)
	}
	return file, err
}
