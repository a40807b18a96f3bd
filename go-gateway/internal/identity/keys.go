package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"triptych.dev/gateway/internal/store"
)

const (
	// MaxLifetime of a key, and longest overlap of two, is so long that a longer one is a slip.
	MaxLifetime = 10 * 365 * 24 * time.Hour
	// DefaultOverlap is for how long a key works beside the one that took its place.
	DefaultOverlap = 24 * time.Hour
)

// Keys makes and ends API keys while gateways run. Each act leaves one entry in the store's audit log and one line in the
// process' log, without the key.
type Keys struct {
	store  *store.Store
	by     string
	now    func() time.Time
	audit  *slog.Logger
	answer Answering
}

// Answering returns the answer to keep with a new key; nil where its request is not repeated. The store keeps no secret: it is
// for whoever asked first alone.
type Answering func(key Secret, record store.Key) (*store.Answer, error)

// Answered returns keys of which each new one is written with its answer, once for the answer's key.
func (k *Keys) Answered(answer Answering) *Keys {
	answered := *k
	answered.answer = answer
	return &answered
}

// answerOf is what is kept with a new key.
func (k *Keys) answerOf(key Secret, record store.Key) (*store.Answer, error) {
	if k.answer == nil {
		return nil, nil
	}
	return k.answer(key, record)
}

// NewKeys returns the keys of a store. by says who acts, for the audit log.
func NewKeys(s *store.Store, by string, now func() time.Time, audit *slog.Logger) *Keys {
	return &Keys{store: s, by: by, now: now, audit: audit}
}

// RefusedError is what the state of keys does not allow. It may be shown to whoever asked.
type RefusedError struct{ error }

func refused(format string, args ...any) error { return RefusedError{fmt.Errorf(format, args...)} }

// Unwrap returns the cause.
func (e RefusedError) Unwrap() error { return e.error }

// mostTries bounds how often another id is tried where one is taken: of 36^8, two tries that fail are an error elsewhere.
const mostTries = 3

// Create makes a key for a tenant, which ends after a lifetime unless that is 0, and is restricted to scopes where there
// are some. This is the only time that it is seen.
func (k *Keys) Create(ctx context.Context, tenant string, lifetime time.Duration, scopes ...string) (Secret, error) {
	if err := CheckTenantName(tenant); err != nil {
		return "", err
	}
	parsed, err := ParseScopes(scopes)
	if err != nil {
		return "", err
	}
	key, record, err := k.try(func(now time.Time) (Secret, store.Key, error) {
		key, record := newKey(tenant, now, lifetime, parsed.String())
		answer, err := k.answerOf(key, record)
		if err != nil {
			return "", store.Key{}, err
		}
		return key, record, k.store.CreateKey(ctx, record, k.act(keyCreated, record), answer)
	})
	if err == nil {
		k.log(k.act(keyCreated, record))
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
	created, err := k.store.CreateFirstKeys(ctx, records, func(record store.Key) store.AuditEntry { return k.act(keyCreated, record) })
	if err != nil {
		return nil, err
	}
	keys := map[string]Secret{}
	for _, record := range created {
		keys[record.Tenant] = secrets[record.ID]
		k.log(k.act(keyCreated, record))
	}
	return keys, nil
}

// Rotate makes a key that takes another one's place, which ends after an overlap, or earlier if it did so already. One
// that had a lifetime gives it to the new key; and its scopes, where scopes is nil.
func (k *Keys) Rotate(ctx context.Context, id string, overlap time.Duration, scopes ...string) (Secret, error) {
	if err := CheckKeyID(id); err != nil {
		return "", err
	}
	parsed, err := ParseScopes(scopes)
	if err != nil {
		return "", err
	}
	var act store.AuditEntry
	key, _, err := k.try(func(now time.Time) (key Secret, record store.Key, err error) {
		err = k.store.ReplaceKey(ctx, id, now.Add(overlap), func(old store.Key) (store.Replacement, error) {
			switch {
			case !old.Revoked.IsZero():
				return store.Replacement{}, refused("the key %q is revoked: make a new one with: gateway keys create --tenant %s", id, old.Tenant)
			case old.ReplacedBy != "":
				return store.Replacement{}, refused("the key %q was rotated already: rotate %q, which took its place", id, old.ReplacedBy)
			case ended(old, now):
				return store.Replacement{}, refused("the key %q has expired: make a new one with: gateway keys create --tenant %s", id, old.Tenant)
			}
			lifetime := time.Duration(0)
			if !old.Expires.IsZero() {
				lifetime = old.Expires.Sub(old.Created)
			}
			allowed := old.Scopes
			if scopes != nil {
				allowed = parsed.String()
			}
			key, record = newKey(old.Tenant, now, lifetime, allowed)
			act = k.act(keyRotated, record, "replaces="+id, "overlap="+overlap.String())
			answer, err := k.answerOf(key, record)
			return store.Replacement{Key: record, Act: act, Answer: answer}, err
		})
		return key, record, err
	})
	if err == nil {
		k.log(act)
	}
	return key, err
}

// Revoke ends a key. Its record stays, with the time. To revoke it again changes nothing.
func (k *Keys) Revoke(ctx context.Context, id string) error {
	if err := CheckKeyID(id); err != nil {
		return err
	}
	var act store.AuditEntry
	_, changed, err := k.store.RevokeKey(ctx, id, k.now(), func(record store.Key) store.AuditEntry {
		act = k.act(keyRevoked, record)
		return act
	})
	if err == nil && changed {
		k.log(act)
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

// What is done to keys, in the audit log's words.
const (
	keyCreated = "key created"
	keyRotated = "key rotated"
	keyRevoked = "key revoked"
)

// act is what the audit log has of an act on a key. more is as in "replaces=ID".
func (k *Keys) act(act string, record store.Key, more ...string) store.AuditEntry {
	var details []string
	if !record.Expires.IsZero() {
		details = append(details, "expires="+record.Expires.Format(time.RFC3339))
	}
	if record.Scopes != "" {
		details = append(details, "scopes="+record.Scopes)
	}
	return store.AuditEntry{
		At: k.now(), By: k.by, Act: act, Tenant: record.Tenant, Key: record.ID, Details: append(details, more...),
	}
}

// log writes the line of an act.
func (k *Keys) log(act store.AuditEntry) {
	line := []any{"by", act.By, "act", act.Act, "tenant", act.Tenant, "key", act.Key}
	for _, detail := range act.Details {
		name, value, _ := strings.Cut(detail, "=")
		line = append(line, name, value)
	}
	k.audit.Info("audit", line...)
}
