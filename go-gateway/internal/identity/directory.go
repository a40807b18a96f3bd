package identity

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"triptych.dev/gateway/internal/fault"
)

// Directory knows all keys and tenants, as their files have them. The files fail on their own: a broken one keeps no
// change of the other from counting.
type Directory struct {
	keys    *source[map[string]KeyRecord] // by id
	tenants *source[map[string]Tenant]    // by name
}

// Open reads both files. Its error holds every fault of both.
func Open(keysPath, tenantsPath string, logger *slog.Logger) (*Directory, error) {
	d := &Directory{
		keys:    newSource("keys", keysPath, readKeysByID, logger),
		tenants: newSource("tenants", tenantsPath, readTenants, logger),
	}
	return d, errors.Join(d.keys.open(), d.tenants.open())
}

func readKeysByID(path string) (map[string]KeyRecord, error) {
	records, err := readKeys(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w; make it with: gateway keys create --tenant NAME", err)
	}
	keys := make(map[string]KeyRecord, len(records))
	for _, record := range records {
		keys[record.ID] = record
	}
	return keys, err
}

// CheckTenants returns every fault of a tenants file.
func CheckTenants(tenantsPath string) error {
	_, err := readTenants(tenantsPath)
	return err
}

// ReadTenants returns the names of a tenants file, in order.
func ReadTenants(tenantsPath string) ([]string, error) {
	tenants, err := readTenants(tenantsPath)
	return slices.Sorted(maps.Keys(tenants)), err
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

// keyScopes are those of every key: whoever has one may do all that there is.
var keyScopes = []Scope{ScopeInference, ScopeModels}

// Authenticate returns who an Authorization header's value is of. Errors are *fault.Fault.
func (d *Directory) Authenticate(authorization string) (Principal, error) {
	scheme, credentials, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return Principal{}, fault.New(fault.MissingAPIKey,
			"An API key is required, as in \"Authorization: Bearer %s…\".", keyPrefix)
	}
	key := Secret(strings.TrimSpace(credentials))
	id, _ := keyID(key)
	// The zero record, for an unknown id, matches nothing; ids are public, so it may take less time.
	record := d.keys.content()[id]
	tenant, known := d.tenants.content()[record.Tenant]
	if !record.matches(key) || !known {
		return Principal{}, fault.New(fault.InvalidAPIKey, "The API key is unknown, malformed or revoked.")
	}
	return Principal{Tenant: tenant.Name, KeyID: id, Plan: tenant.Plan, Scopes: keyScopes, Priority: Interactive}, nil
}

// Watch takes changes of the files until ctx ends.
func (d *Directory) Watch(ctx context.Context) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			d.refresh(now)
		}
	}
}

func (d *Directory) refresh(now time.Time) {
	d.keys.refresh(now)
	d.tenants.refresh(now)
}

// Staleness says of each file, by name, for how long its changes could not be taken.
func (d *Directory) Staleness(now time.Time) map[string]time.Duration {
	return map[string]time.Duration{d.keys.name: d.keys.staleness(now), d.tenants.name: d.tenants.staleness(now)}
}
