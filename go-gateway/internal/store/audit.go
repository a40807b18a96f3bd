package store

import (
	"context"
	"database/sql"
	"strings"
	"time"
)

// maxAuditEntries are kept, some 200 bytes each: with a hundred acts a day those of years.
var maxAuditEntries int64 = 100_000

// AuditEntry is one administrative act. It holds no key.
type AuditEntry struct {
	ID int64 // greater than those of all earlier ones
	At time.Time
	// By is who did it, as "command line, user 1000".
	By, Act     string
	Tenant, Key string
	Details     []string // more about it, a line each, which the store does not read
}

// AuditLog returns at most so many acts, newest first: those before the one with an id, or all where it is 0.
func (s *Store) AuditLog(ctx context.Context, before int64, most int) ([]AuditEntry, error) {
	return query(ctx, s, scanAudit, `SELECT id, at, author, act, tenant, key_id, details FROM audit_entry
		WHERE id < $1 OR $1 = 0 ORDER BY id DESC LIMIT $2`, before, most)
}

func scanAudit(row scanner) (entry AuditEntry, err error) {
	var at int64
	var details string
	err = row.Scan(&entry.ID, &at, &entry.By, &entry.Act, &entry.Tenant, &entry.Key, &details)
	entry.At = time.UnixMilli(at).UTC()
	if details != "" {
		entry.Details = strings.Split(details, "\n")
	}
	return entry, err
}

// addAudit writes an act down. The change counter's row, which is locked by then, keeps two from having one id.
func addAudit(ctx context.Context, tx *sql.Tx, entry AuditEntry) error {
	var id int64
	if err := tx.QueryRowContext(ctx, `SELECT coalesce(max(id), 0) + 1 FROM audit_entry`).Scan(&id); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO audit_entry (id, at, author, act, tenant, key_id, details) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		id, entry.At.UnixMilli(), entry.By, entry.Act, entry.Tenant, entry.Key, strings.Join(entry.Details, "\n"))
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM audit_entry WHERE id <= $1`, id-maxAuditEntries)
	return err
}
