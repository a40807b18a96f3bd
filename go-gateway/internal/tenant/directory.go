package tenant

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"triptych.dev/gateway/internal/fault"
)

// pollInterval is how often the files are looked at. Polling works on every file system and through every way of
// replacing a file; a key that was made or revoked counts within a second.
const pollInterval = 500 * time.Millisecond

// Directory knows all keys and tenants, as their files have them.
type Directory struct {
	keysPath, tenantsPath string
	logger                *slog.Logger

	current atomic.Pointer[directoryState]
	seen    [2]fileStamp // of the files when last read; used by Open, then by Watch alone
}

type directoryState struct {
	keys    map[string]KeyRecord // by id
	tenants map[string]Tenant    // by name
}

// Open reads both files. Its error holds every fault of both.
func Open(keysPath, tenantsPath string, logger *slog.Logger) (*Directory, error) {
	d := &Directory{keysPath: keysPath, tenantsPath: tenantsPath, logger: logger}
	d.seen = d.stamps()
	return d, d.load()
}

// ReadTenant returns one tenant of a tenants file.
func ReadTenant(tenantsPath, name string) (Tenant, error) {
	tenants, err := readTenants(tenantsPath)
	if err != nil {
		return Tenant{}, err
	}
	found, ok := tenants[name]
	if !ok {
		return Tenant{}, fmt.Errorf("%s has no tenant %q", tenantsPath, name)
	}
	return found, nil
}

// Authenticate returns the tenant of an Authorization header's value. Errors are *fault.Fault.
func (d *Directory) Authenticate(authorization string) (Tenant, error) {
	scheme, credentials, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return Tenant{}, fault.New(fault.MissingAPIKey, "An API key is required, as in \"Authorization: Bearer %s…\".", keyPrefix)
	}
	key := Secret(strings.TrimSpace(credentials))
	state := d.current.Load()
	id, _ := keyID(key)
	record := state.keys[id] // the zero record, for an unknown id, matches nothing and takes as long
	tenant, known := state.tenants[record.Tenant]
	if !record.matches(key) || !known {
		return Tenant{}, fault.New(fault.InvalidAPIKey, "The API key is unknown, malformed or revoked.")
	}
	return tenant, nil
}

// Watch takes changes of the files until ctx ends. A broken file changes nothing: what was read before stays in force.
func (d *Directory) Watch(ctx context.Context) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			d.refresh()
		}
	}
}

// refresh reads the files again if one of them changed, and logs the outcome once per change.
func (d *Directory) refresh() {
	stamps := d.stamps()
	if stamps == d.seen {
		return
	}
	d.seen = stamps
	if err := d.load(); err != nil {
		d.logger.Error("keys and tenants stay as they were: a changed file is broken", "error", err)
		return
	}
	state := d.current.Load()
	d.logger.Info("keys and tenants were read again", "keys", len(state.keys), "tenants", len(state.tenants))
}

func (d *Directory) load() error {
	records, keysErr := readKeys(d.keysPath)
	if errors.Is(keysErr, fs.ErrNotExist) {
		keysErr = fmt.Errorf("%w; make it with: gateway keys create --tenant NAME", keysErr)
	}
	tenants, tenantsErr := readTenants(d.tenantsPath)
	if err := errors.Join(keysErr, tenantsErr); err != nil {
		return err
	}
	keys := make(map[string]KeyRecord, len(records))
	for _, record := range records {
		keys[record.ID] = record
	}
	d.current.Store(&directoryState{keys: keys, tenants: tenants})
	return nil
}

// fileStamp changes when a file does.
type fileStamp struct {
	modified time.Time
	size     int64
	inode    uint64 // another file under the same name, be it as old and as long
}

func (d *Directory) stamps() [2]fileStamp {
	return [2]fileStamp{stampOf(d.keysPath), stampOf(d.tenantsPath)}
}

func stampOf(path string) fileStamp {
	info, err := os.Stat(path)
	if err != nil {
		return fileStamp{} // gone, or being replaced
	}
	return fileStamp{modified: info.ModTime(), size: info.Size(), inode: inodeOf(info)}
}

func inodeOf(info fs.FileInfo) uint64 {
	if status, ok := info.Sys().(*syscall.Stat_t); ok {
		return status.Ino
	}
	return 0
}
