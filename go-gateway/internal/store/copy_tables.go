package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

const (
	// versionTable is the only one that is not copied: it has the same versions, and when they came.
	versionTable = "schema_version"
	// progressRows are copied before that is told.
	progressRows = 1000
)

// seededTables have rows as soon as they are made, which a copy replaces.
var seededTables = []string{"change_counter"}

// table is one of a database, with its columns in order.
type table struct {
	name    string
	columns []string
	rows    int64
}

// tables returns all of SQLite's that are copied, in the order in which they were made.
func (s *Store) tables(ctx context.Context) (tables []table, err error) {
	names, err := s.lines(ctx, `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite^_%' ESCAPE '^' ORDER BY rowid`)
	for _, name := range names {
		if err != nil {
			break
		}
		if name == versionTable {
			continue
		}
		found := table{name: name}
		if found.columns, err = s.lines(ctx, `SELECT name FROM pragma_table_info('`+name+`') ORDER BY cid`); err == nil {
			err = s.r.QueryRowContext(ctx, `SELECT count(*) FROM `+found.quoted()).Scan(&found.rows)
		}
		tables = append(tables, found)
	}
	return tables, s.explain(err)
}

func (t table) quoted() string { return pgx.Identifier{t.name}.Sanitize() }

func (t table) query() string {
	quoted := make([]string, len(t.columns))
	for i, column := range t.columns {
		quoted[i] = pgx.Identifier{column}.Sanitize()
	}
	return `SELECT ` + strings.Join(quoted, ", ") + ` FROM ` + t.quoted()
}

// lockTables keeps others from writing to them before the transaction has ended.
func lockTables(ctx context.Context, tx pgx.Tx, tables []table) error {
	var names []string
	for _, table := range tables {
		names = append(names, table.quoted())
	}
	_, err := tx.Exec(ctx, `LOCK TABLE `+strings.Join(names, ", ")+` IN SHARE ROW EXCLUSIVE MODE`)
	return err
}

// firstUsed returns the first table that is not as it was made; empty: all are.
func firstUsed(ctx context.Context, tx pgx.Tx, tables []table) (string, error) {
	for _, table := range tables {
		var used bool
		err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM `+table.quoted()+`)`).Scan(&used)
		if err != nil {
			return "", err
		}
		if used && !slices.Contains(seededTables, table.name) {
			return table.name, nil
		}
	}
	return "", nil
}

// differError says that a table is not the same on both sides.
type differError struct{ text string }

func (e differError) Error() string { return e.text }

// table copies one, unless that was done before, and compares both sides.
func (c *copier) table(ctx context.Context, tx pgx.Tx, table table, before bool) error {
	rows, err := c.source.r.QueryContext(ctx, table.query())
	if err != nil {
		return c.source.explain(err)
	}
	defer rows.Close()
	from := &tableRows{copier: c, table: table, rows: rows}
	if before {
		for from.Next() {
		}
	} else {
		if slices.Contains(seededTables, table.name) {
			if _, err := tx.Exec(ctx, `DELETE FROM `+table.quoted()); err != nil {
				return c.target.explain(err)
			}
		}
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{table.name}, table.columns, from); err != nil && from.err == nil {
			return fmt.Errorf("table %s, after its row %d: %w", table.name, from.digest.rows, c.target.explain(err))
		}
	}
	if from.err != nil {
		return fmt.Errorf("table %s: %w", table.name, c.source.explain(from.err))
	}
	found, err := digestOf(ctx, tx, table)
	if err != nil {
		return fmt.Errorf("table %s: %w", table.name, c.target.explain(err))
	}
	if found != from.digest {
		return differError{fmt.Sprintf("table %s has %d rows here, and %d there, with hashes %s and %s",
			table.name, from.digest.rows, found.rows, from.digest.hash(), found.hash())}
	}
	c.copied.Tables = append(c.copied.Tables, CopiedTable{table.name, found.rows, found.hash()})
	return nil
}

// tableRows reads a table for PostgreSQL's COPY, and adds it up.
type tableRows struct {
	*copier
	table  table
	rows   *sql.Rows
	values []any
	digest digest
	err    error
}

// Next implements pgx.CopyFromSource.
func (r *tableRows) Next() bool {
	if r.err != nil || !r.rows.Next() {
		r.err = errors.Join(r.err, r.rows.Err())
		return false
	}
	r.values = make([]any, len(r.table.columns))
	into := make([]any, len(r.values))
	for i := range into {
		into[i] = &r.values[i]
	}
	if r.err = r.rows.Scan(into...); r.err == nil {
		r.err = r.digest.add(r.values)
	}
	if r.done++; r.progress != nil && r.done%progressRows == 0 {
		r.progress(r.table.name, r.done, r.total)
	}
	return r.err == nil
}

// Values implements pgx.CopyFromSource.
func (r *tableRows) Values() ([]any, error) { return r.values, nil }

// Err implements pgx.CopyFromSource.
func (r *tableRows) Err() error { return r.err }

// digestOf adds up a table of PostgreSQL.
func digestOf(ctx context.Context, tx pgx.Tx, table table) (sum digest, err error) {
	rows, err := tx.Query(ctx, table.query())
	if err != nil {
		return digest{}, err
	}
	defer rows.Close()
	for rows.Next() {
		values, err := rows.Values()
		if err == nil {
			err = sum.add(values)
		}
		if err != nil {
			return digest{}, err
		}
	}
	return sum, rows.Err()
}

// digest is how many rows there are, and the sum of their hashes, to which their order makes no difference.
type digest struct {
	rows int64
	sum  [sha256.Size / 8]uint64
}

func (d *digest) hash() string {
	var bytes []byte
	for _, part := range d.sum {
		bytes = binary.BigEndian.AppendUint64(bytes, part)
	}
	return hex.EncodeToString(bytes)
}

func (d *digest) add(values []any) error {
	var row []byte
	for _, value := range values {
		switch value := value.(type) {
		case nil:
			row = append(row, 0)
		case int64:
			row = binary.BigEndian.AppendUint64(append(row, 1), uint64(value))
		case string:
			row = append(binary.BigEndian.AppendUint64(append(row, 2), uint64(len(value))), value...)
		default:
			return fmt.Errorf("a value of type %T, which no column has", value)
		}
	}
	hash := sha256.Sum256(row)
	for i := range d.sum {
		d.sum[i] += binary.BigEndian.Uint64(hash[8*i:])
	}
	d.rows++
	return nil
}
