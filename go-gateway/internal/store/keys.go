package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Key is what is stored of an API key: enough to recognise it, not to use it.
type Key struct {
	ID, Tenant string
	SHA256     string // of the whole key, in hexadecimal
	Scopes     string // what it is restricted to, separated by spaces; empty: nothing
	Created    time.Time
	Expires    time.Time // zero: never
	Revoked    time.Time // zero: it is not
	ReplacedBy string    // the id of the key that it was rotated to; empty: it was not
}

const keyColumns = `id, tenant, sha256, scopes, created_at, expires_at, revoked_at, replaced_by`

// KeysVersion changes with every change of a key.
func (s *Store) KeysVersion(ctx context.Context) (version int64, err error) {
	err = s.r.QueryRowContext(ctx, `SELECT version FROM change_counter WHERE topic = 'keys'`).Scan(&version)
	return version, s.explain(err)
}

// Keys returns all keys, oldest first; those of one tenant where it is not empty.
func (s *Store) Keys(ctx context.Context, tenant string) ([]Key, error) {
	return query(ctx, s, scanKey, `SELECT `+keyColumns+` FROM api_key WHERE tenant = $1 OR $1 = '' ORDER BY created_at, id`, tenant)
}

// KeysPage returns at most so many keys by their ids, in order: those after an id, of a tenant where that is not empty, and
// whose id begins with a prefix.
func (s *Store) KeysPage(ctx context.Context, tenant, prefix, after string, most int) ([]Key, error) {
	return query(ctx, s, scanKey, `SELECT `+keyColumns+` FROM api_key
		WHERE id > $1 AND (tenant = $2 OR $2 = '') AND substr(id, 1, $3) = $4 ORDER BY id LIMIT $5`,
		after, tenant, len(prefix), prefix, most)
}

// FindKey returns the key with an id, or ErrNotFound.
func (s *Store) FindKey(ctx context.Context, id string) (Key, error) {
	key, err := findKey(ctx, s.r, id)
	return key, s.explain(err)
}

// CreateKey adds a key, and the act to the audit log; ErrExists where its id is taken. A nil answer is none to keep; else
// ErrAnswered tells that it was added before.
func (s *Store) CreateKey(ctx context.Context, key Key, act AuditEntry, answer *Answer) error {
	return s.changeKeys(ctx, func(tx *sql.Tx) error {
		if err := s.keepAnswer(ctx, tx, "", answer); err != nil {
			return err
		}
		return insertKey(ctx, tx, key, act)
	})
}

// CreateFirstKeys adds the keys of tenants that never had one, and returns those. actOf says what the audit log has of one.
func (s *Store) CreateFirstKeys(ctx context.Context, keys []Key, actOf func(Key) AuditEntry) (created []Key, err error) {
	err = s.changeKeys(ctx, func(tx *sql.Tx) error {
		for _, key := range keys {
			var had int
			err := tx.QueryRowContext(ctx, `SELECT count(*) FROM api_key WHERE tenant = $1`, key.Tenant).Scan(&had)
			if err != nil {
				return err
			}
			if had > 0 {
				continue
			}
			if err := insertKey(ctx, tx, key, actOf(key)); err != nil {
				return err
			}
			created = append(created, key)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return created, nil
}

// Replacement is a key that takes another one's place, and what is written with it.
type Replacement struct {
	Key    Key
	Act    AuditEntry
	Answer *Answer // nil: there is none to keep
}

// ReplaceKey adds the key that replace makes of the one with an id, which ends at a time at the latest, the act to the audit
// log, and the answer: all of it, or nothing. ErrAnswered tells that it was replaced so before.
func (s *Store) ReplaceKey(ctx context.Context, id string, end time.Time, replace func(old Key) (Replacement, error)) error {
	return s.changeKeys(ctx, func(tx *sql.Tx) error {
		old, err := findKey(ctx, tx, id)
		if err != nil {
			return err
		}
		fresh, err := replace(old)
		if err != nil {
			return err
		}
		if err := s.keepAnswer(ctx, tx, "", fresh.Answer); err != nil {
			return err
		}
		if err := insertKey(ctx, tx, fresh.Key, fresh.Act); err != nil {
			return err
		}
		if !old.Expires.IsZero() && old.Expires.Before(end) {
			end = old.Expires
		}
		return one(tx.ExecContext(ctx, `UPDATE api_key SET expires_at = $2, replaced_by = $3 WHERE id = $1 AND replaced_by IS NULL AND revoked_at IS NULL`,
			id, end.UnixMilli(), fresh.Key.ID))
	})
}

// RevokeKey ends a key at a time, and returns it as it is then. One that was revoked before keeps its time, and the audit
// log has no second act.
func (s *Store) RevokeKey(ctx context.Context, id string, at time.Time, actOf func(Key) AuditEntry) (key Key, changed bool, err error) {
	err = s.changeKeys(ctx, func(tx *sql.Tx) error {
		if key, err = findKey(ctx, tx, id); err != nil || !key.Revoked.IsZero() {
			return err
		}
		key.Revoked, changed = at, true
		err := one(tx.ExecContext(ctx, `UPDATE api_key SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL`, id, at.UnixMilli()))
		if err != nil {
			return err
		}
		return addAudit(ctx, tx, actOf(key))
	})
	return key, changed, err
}

// changeKeys changes keys, one process after the other, and tells all gateways.
func (s *Store) changeKeys(ctx context.Context, changes func(tx *sql.Tx) error) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		// First, since the row's lock is what other writers wait for.
		if err := one(tx.ExecContext(ctx, `UPDATE change_counter SET version = version + 1 WHERE topic = 'keys'`)); err != nil {
			return err
		}
		return changes(tx)
	})
}

func insertKey(ctx context.Context, tx *sql.Tx, key Key, act AuditEntry) error {
	done, err := tx.ExecContext(ctx, `INSERT INTO api_key (`+keyColumns+`) VALUES ($1, $2, $3, $4, $5, $6, NULL, NULL) ON CONFLICT (id) DO NOTHING`,
		key.ID, key.Tenant, key.SHA256, key.Scopes, key.Created.UnixMilli(), milliseconds(key.Expires))
	if err != nil {
		return err
	}
	if rows, err := done.RowsAffected(); err != nil || rows == 0 {
		return cmp.Or(err, ErrExists)
	}
	return addAudit(ctx, tx, act)
}

func findKey(ctx context.Context, q querier, id string) (Key, error) {
	key, err := scanKey(q.QueryRowContext(ctx, `SELECT `+keyColumns+` FROM api_key WHERE id = $1`, id))
	if err == sql.ErrNoRows {
		err = fmt.Errorf("there is no key %q: %w", id, ErrNotFound)
	}
	return key, err
}

func scanKey(row scanner) (key Key, err error) {
	var created int64
	var expires, revoked sql.NullInt64
	var replacedBy sql.NullString
	err = row.Scan(&key.ID, &key.Tenant, &key.SHA256, &key.Scopes, &created, &expires, &revoked, &replacedBy)
	key.Created, key.Expires, key.Revoked, key.ReplacedBy = time.UnixMilli(created).UTC(), timeOf(expires), timeOf(revoked), replacedBy.String
	return key, err
}

// one is the fence of an update: it must have changed one row.
func one(done sql.Result, err error) error {
	if err != nil {
		return err
	}
	if rows, err := done.RowsAffected(); err != nil || rows != 1 {
		return cmp.Or(err, fmt.Errorf("it was changed meanwhile: %w", ErrNotFound))
	}
	return nil
}

func milliseconds(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: t.UnixMilli(), Valid: !t.IsZero()}
}

func timeOf(ms sql.NullInt64) time.Time {
	if !ms.Valid {
		return time.Time{}
	}
	return time.UnixMilli(ms.Int64).UTC()
}
