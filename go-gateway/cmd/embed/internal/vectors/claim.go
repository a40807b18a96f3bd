package vectors

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// claims is the folder of claims within a store's.
const claims = "claims"

// Claim says that a process is at a piece of work. The kernel gives it back when the process has ended, in whatever way.
type Claim struct{ file *os.File }

// Claim is nil if another one is at it.
func (s *Store) Claim(work Hash) (*Claim, error) { return claimAt(s.claimPath(work)) }

// sweepClaims removes the files of claims that processes had which were killed: nobody may have that work again.
func (s *Store) sweepClaims() error {
	left, err := os.ReadDir(filepath.Join(s.folder, claims))
	for _, file := range left {
		claim, failed := claimAt(filepath.Join(s.folder, claims, file.Name()))
		if failed == nil && claim != nil {
			failed = claim.Release()
		}
		err = errors.Join(err, failed)
	}
	return err
}

func claimAt(path string) (*Claim, error) {
	for {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o666)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			_ = file.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, nil
			}
			return nil, err
		}
		// Who had it before removes the file: then this is a lock of nothing.
		if same, err := isAt(file, path); err != nil || !same {
			_ = file.Close()
			if err != nil {
				return nil, err
			}
			continue
		}
		return &Claim{file}, nil
	}
}

// Claimed reports whether somebody is at it.
func (s *Store) Claimed(work Hash) (bool, error) {
	file, err := os.Open(s.claimPath(work))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }()
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

func (s *Store) claimPath(work Hash) string {
	return filepath.Join(s.folder, claims, hex.EncodeToString(work[:16]))
}

func isAt(file *os.File, path string) (bool, error) {
	mine, err := file.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(mine, there), err
}

// Release gives it back.
func (c *Claim) Release() error {
	return errors.Join(os.Remove(c.file.Name()), c.file.Close())
}
