package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// KeysFile is the file that holds the records of all keys. Any number of processes may change it at the same time.
type KeysFile struct {
	path string
	now  func() time.Time
}

type keysContent struct {
	Keys []KeyRecord `json:"keys"`
}

// NewKeysFile returns the keys file at path, which need not exist yet.
func NewKeysFile(path string, now func() time.Time) *KeysFile {
	return &KeysFile{path: path, now: now}
}

// Create makes a key for a tenant. This is the only time that the key is seen.
func (f *KeysFile) Create(tenant string) (Secret, error) {
	if err := checkName(tenant, "tenant"); err != nil {
		return "", err
	}
	var key Secret
	err := f.change(func(records []KeyRecord) ([]KeyRecord, error) {
		var record KeyRecord
		key, record = newOtherKey(tenant, f.now(), records)
		return append(records, record), nil
	})
	return key, err
}

// CreateFirst makes a key for each tenant that never had one, and returns them by tenant.
func (f *KeysFile) CreateFirst(tenants []string) (map[string]Secret, error) {
	created := map[string]Secret{}
	err := f.change(func(records []KeyRecord) ([]KeyRecord, error) {
		for _, tenant := range tenants {
			if slices.ContainsFunc(records, func(record KeyRecord) bool { return record.Tenant == tenant }) {
				continue
			}
			key, record := newOtherKey(tenant, f.now(), records)
			created[tenant], records = key, append(records, record)
		}
		return records, nil
	})
	return created, err
}

// newOtherKey makes a key whose id none of the records has.
func newOtherKey(tenant string, now time.Time, records []KeyRecord) (Secret, KeyRecord) {
	for {
		key, record := newKey(tenant, now)
		if !slices.ContainsFunc(records, func(other KeyRecord) bool { return other.ID == record.ID }) {
			return key, record
		}
	}
}

// Revoke ends a key. Its record stays, with the time. To revoke it again changes nothing.
func (f *KeysFile) Revoke(id string) error {
	return f.change(func(records []KeyRecord) ([]KeyRecord, error) {
		i := slices.IndexFunc(records, func(record KeyRecord) bool { return record.ID == id })
		if i < 0 {
			return nil, fmt.Errorf("%s has no key %q", f.path, id)
		}
		if records[i].Revoked.IsZero() {
			records[i].Revoked = f.now().UTC().Truncate(time.Second)
		}
		return records, nil
	})
}

// List returns all records, oldest first.
func (f *KeysFile) List() ([]KeyRecord, error) {
	return readKeys(f.path)
}

// change reads, edits and replaces the file under a lock, so that two changes at once both last.
//
// The lock is on a file beside it, because the file itself is replaced. The system drops it with the process.
func (f *KeysFile) change(edit func([]KeyRecord) ([]KeyRecord, error)) error {
	path, err := resolve(f.path)
	if err != nil {
		return err
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	records, err := readKeys(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if records, err = edit(records); err != nil {
		return err
	}
	data, err := json.Marshal(keysContent{records}, jsontext.WithIndent("  "))
	if err != nil {
		return err
	}
	return replaceFile(path, append(data, '\n'))
}

// readKeys reads a keys file and returns every fault of it together.
func readKeys(path string) ([]KeyRecord, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var content keysContent
	if err := json.Unmarshal(data, &content, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var faults []error
	seen := map[string]bool{}
	for _, record := range content.Keys {
		if err := record.check(); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", path, err))
		}
		if seen[record.ID] {
			faults = append(faults, fmt.Errorf("%s: key %q is there twice", path, record.ID))
		}
		seen[record.ID] = true
	}
	return content.Keys, errors.Join(faults...)
}

// replaceFile writes a file in one step: a reader sees the old content or the new, also after a crash, and the new one
// once this has returned. Who may read the file stays as it was; a new one is its owner's alone.
func replaceFile(path string, data []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // gone already when all went well
	_, err = temporary.Write(data)
	if err == nil {
		err = copyAccess(path, temporary)
	}
	if err == nil {
		err = temporary.Sync()
	}
	if err := errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes a rename outlast a loss of power.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// resolve follows symbolic links, so that the file is changed that they lead to, under one lock by whichever name. One
// that leads nowhere yet is an error; a file that is not there yet is none.
func resolve(path string) (string, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	return filepath.EvalSymlinks(path)
}

// copyAccess gives a file the owner and mode of the one at path, if there is one.
func copyAccess(path string, to *os.File) error {
	old, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	fresh, err := to.Stat()
	if err != nil {
		return err
	}
	had, has := old.Sys().(*syscall.Stat_t), fresh.Sys().(*syscall.Stat_t) // so on all systems that have flock
	if had.Uid != has.Uid || had.Gid != has.Gid {
		// First, so that what the mode allows is never allowed to others.
		if err := to.Chown(int(had.Uid), int(had.Gid)); err != nil {
			return err
		}
	}
	return to.Chmod(old.Mode())
}
