package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"triptych.dev/gateway/internal/store"
)

// Keys makes and ends API keys while gateways run. Each act leaves one line in the audit log, without the key.
type Keys struct {
	store *store.Store
	now   func() time.Time
	audit *slog.Logger
}

// NewKeys returns the keys of a store.
func NewKeys(s *store.Store, now func() time.Time, audit *slog.Logger) *Keys {
	return &Keys{store: s, now: now, audit: audit}
}

// mostTries bounds how often another id is tried where one is taken: of 36^8, two tries that fail are an error elsewhere.
const mostTries = 3

// Create makes a key for a tenant, which ends after a lifetime unless that is 0, and is restricted to scopes where there
// are some. This is the only time that it is seen.
func (k *Keys) Create(ctx context.Context, tenant string, lifetime time.Duration, scopes ...string) (Secret, error) {
	if err := checkName(tenant, "tenant"); err != nil {
		return "", err
	}
	parsed, err := ParseScopes(scopes)
	if err != nil {
		return "", err
	}
	key, record, err := k.try(func(now time.Time) (Secret, store.Key, error) {
		key, record := newKey(tenant, now, lifetime, parsed.String())
		return key, record, k.store.CreateKey(ctx, record)
	})
	if err == nil {
		k.log("key created", record)
	}
	return key, err
}

// CreateFirst makes a key for each tenant that never had one, and returns them by tenant.
func (k *Keys) CreateFirst(ctx context.Context, tenants []string) (map[string]Secret, error) {
	now := k.now()
	secrets, records := map[string]Secret{}, make([]store.Key, 0, len(tenants))
	for _, tenant := range tenants {
		key, record := newKey(tenant, now, 0, "")
		secrets[record.ID] = key
		records = append(records, record)
	}
	created, err := k.store.CreateFirstKeys(ctx, records)
	if err != nil {
		return nil, err
	}
	keys := map[string]Secret{}
	for _, record := range created {
		keys[record.Tenant] = secrets[record.ID]
		k.log("key created", record)
	}
	return keys, nil
}

// Rotate makes a key that takes another one's place, which ends after an overlap, or earlier if it did so already. One
// that had a lifetime gives it to the new key, and its scopes.
func (k *Keys) Rotate(ctx context.Context, id string, overlap time.Duration) (Secret, error) {
	if err := checkKeyID(id); err != nil {
		return "", err
	}
	var tenant string
	key, record, err := k.try(func(now time.Time) (key Secret, record store.Key, err error) {
		err = k.store.ReplaceKey(ctx, id, now.Add(overlap), func(old store.Key) (store.Key, error) {
			switch {
			case !old.Revoked.IsZero():
				return store.Key{}, fmt.Errorf("the key %q is revoked: make a new one with: gateway keys create --tenant %s", id, old.Tenant)
			case old.ReplacedBy != "":
				return store.Key{}, fmt.Errorf("the key %q was rotated already: rotate %q, which took its place", id, old.ReplacedBy)
			case ended(old, now):
				return store.Key{}, fmt.Errorf("the key %q has expired: make a new one with: gateway keys create --tenant %s", id, old.Tenant)
			}
			lifetime := time.Duration(0)
			if !old.Expires.IsZero() {
				lifetime = old.Expires.Sub(old.Created)
			}
			tenant = old.Tenant
			key, record = newKey(tenant, now, lifetime, old.Scopes)
			return record, nil
		})
		return key, record, err
	})
	if err == nil {
		k.log("key rotated", record, "replaces", id, "overlap", overlap.String())
	}
	return key, err
}

// Revoke ends a key. Its record stays, with the time. To revoke it again changes nothing.
func (k *Keys) Revoke(ctx context.Context, id string) error {
	if err := checkKeyID(id); err != nil {
		return err
	}
	record, changed, err := k.store.RevokeKey(ctx, id, k.now())
	if err == nil && changed {
		k.log("key revoked", record)
	}
	return err
}

// try makes keys until one's id is free.
func (k *Keys) try(create func(now time.Time) (Secret, store.Key, error)) (key Secret, record store.Key, err error) {
	for range mostTries {
		if key, record, err = create(k.now()); !errors.Is(err, store.ErrExists) {
			break
		}
	}
	if err != nil {
		return "", store.Key{}, err
	}
	return key, record, nil
}

func (k *Keys) log(act string, record store.Key, more ...any) {
	line := []any{"act", act, "tenant", record.Tenant, "key", record.ID}
	if !record.Expires.IsZero() {
		line = append(line, "expires", record.Expires.Format(time.RFC3339))
	}
	if record.Scopes != "" {
		line = append(line, "scopes", record.Scopes)
	}
	k.audit.Info("audit", append(line, more...)...)
}
