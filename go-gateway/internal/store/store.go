// Package store keeps what must outlast a process: in SQLite inside of a data folder, or in PostgreSQL. It is the only
// package that knows SQL, and its repositories are the same on both.
//
// It must not depend on other packages of the gateway, and it decides nothing: what a key may do is for package identity.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"triptych.dev/gateway/internal/tracing"
)

// Errors that callers tell apart.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("exists already")
	ErrFull     = errors.New("the disk is full")
	// ErrUnwritable means that what is there can be read, as far as its disk works, and cannot be changed.
	ErrUnwritable = errors.New("it cannot be written now")
)

// ConfigError is a fault of settings, of the data folder or of the database that a retry does not mend.
type ConfigError struct{ error }

// Unwrap returns the cause.
func (e ConfigError) Unwrap() error { return e.error }

func configError(format string, args ...any) error {
	return ConfigError{fmt.Errorf(format, args...)}
}

// Options say where the store is.
type Options struct {
	// Data is the folder of SQLite.
	Data string
	// DatabaseURL is PostgreSQL's, with a password maybe: it must reach no log. Empty: SQLite.
	DatabaseURL string
}

// Postgres reports whether the store is in PostgreSQL.
func (o Options) Postgres() bool { return o.DatabaseURL != "" }

// Role is what a process opens the store for.
type Role int

// All roles.
const (
	// Reader finds the store as it is, and makes none where there is none.
	Reader Role = iota
	// Checker is a reader that takes any schema that a gateway could bring up to date.
	Checker
	// Inspector is a reader that takes a data folder, too, whose database was copied elsewhere.
	Inspector
	// Command makes a store where there is none, and works beside a gateway.
	Command
	// Gateway is the one process that serves from a data folder. It brings an older schema up to date.
	Gateway
	// Migrator brings an older schema up to date, which in a data folder needs that no gateway runs.
	Migrator
)

// makes reports whether a store is made where there is none.
func (r Role) makes() bool { return r != Reader && r != Checker && r != Inspector }

// Store is an open store. It may be used by several goroutines at once.
type Store struct {
	dialect dialect
	place   string  // for messages
	w       *sql.DB // SQLite allows one writer: a single connection
	r       *sql.DB
	locks   locks
	found   int // the schema's version before it was opened
	turns   turns
	wakes   wakes
	reserve reserve
}

// dialect is what differs between the databases.
type dialect struct {
	name string
	// plain rewrites a migration, which is written for PostgreSQL.
	plain func(statements string) string
	// hasVersion asks whether there is a table of versions.
	hasVersion string
	// now is the database's clock in milliseconds. It stays the same within a statement, so that an index serves.
	now string
	// skipLocked ends a query for rows to change, and leaves those out that another transaction changes.
	skipLocked string
	// notify tells other processes something on a channel; empty: it cannot.
	notify string
	// prepare runs first in the transaction that migrates: it keeps other processes from migrating meanwhile.
	prepare func(ctx context.Context, tx *sql.Tx) error
}

// openTimeout bounds how long opening waits for locks and for the database.
const openTimeout = 15 * time.Second

// Open opens the store. Close must be called in the end.
func Open(ctx context.Context, options Options, role Role) (*Store, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	open := openSQLite
	if options.Postgres() {
		open = openPostgres
	}
	s, err := open(ctx, options, role)
	if err != nil {
		return nil, err
	}
	s.turns.last, s.wakes.calls = map[string]string{}, map[*func()]struct{}{}
	return s, nil
}

// Place says where the store is, without a password.
func (s *Store) Place() string { return s.place }

// Migrated returns the schema's version before the store was opened, and now.
func (s *Store) Migrated() (from, to int) { return s.found, newestSchema }

// Close ends all use of the store, and gives its locks back. Further calls do nothing.
func (s *Store) Close() error {
	var err error
	if s.r != nil {
		err = s.r.Close()
	}
	if s.w != nil && s.w != s.r {
		err = errors.Join(err, s.w.Close())
	}
	err = errors.Join(err, s.locks.close())
	s.locks = nil
	return err
}

// write runs changes in one transaction: all of them last, or none. At a full disk it gives the reserve up, so that it
// succeeds when it is repeated.
func (s *Store) write(ctx context.Context, changes func(tx *sql.Tx) error) error {
	err := s.writeOnce(ctx, changes)
	if errors.Is(err, ErrFull) {
		s.reserve.giveUp()
	}
	return err
}

// writeTwice is write that repeats changes itself, if the reserve has made room for them. Whatever they leave outside of the
// transaction they must leave alike.
func (s *Store) writeTwice(ctx context.Context, changes func(tx *sql.Tx) error) error {
	err := s.writeOnce(ctx, changes)
	if errors.Is(err, ErrFull) && s.reserve.giveUp() {
		err = s.writeOnce(ctx, changes)
	}
	return err
}

// remove runs a statement that removes a bounded number of rows, and returns how many it has removed.
func (s *Store) remove(ctx context.Context, statement string, args ...any) (int, error) {
	var removed int64
	err := s.write(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, statement, args...)
		if err == nil {
			removed, err = done.RowsAffected()
		}
		return err
	})
	return int(removed), err
}

func (s *Store) writeOnce(ctx context.Context, changes func(tx *sql.Tx) error) (err error) {
	ctx, span := tracing.StartWrite(ctx, s.dialect.name)
	defer func() { span.EndWrite(err == nil, err != nil && !isAnswer(err)) }()
	tx, err := s.w.BeginTx(ctx, nil)
	if err != nil {
		return s.explain(err)
	}
	defer tx.Rollback() // after a commit it does nothing
	if err := changes(tx); err != nil {
		return s.explain(err)
	}
	if err := tx.Commit(); err != nil {
		return s.explain(err)
	}
	s.wakes.all()
	return nil
}

// scanner is a row that is read.
type scanner interface{ Scan(into ...any) error }

// query returns what it finds.
func query[Row any](ctx context.Context, s *Store, scan func(scanner) (Row, error), sql string, args ...any) ([]Row, error) {
	found, err := txQuery(ctx, s.r, scan, sql, args...)
	return found, s.explain(err)
}

// txQuery is query in a transaction.
func txQuery[Row any](ctx context.Context, q interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}, scan func(scanner) (Row, error), sql string, args ...any) ([]Row, error) {
	rows, err := q.QueryContext(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []Row
	for rows.Next() {
		row, err := scan(rows)
		if err != nil {
			return nil, err
		}
		found = append(found, row)
	}
	return found, rows.Err()
}

// PageOf returns at most so many of a list, and whether more follow, by asking for one more.
func PageOf[Row any](most int, ask func(most int) ([]Row, error)) (list []Row, more bool, err error) {
	list, err = ask(most + 1)
	if more = len(list) > most; more {
		list = list[:most]
	}
	return list, more, err
}

// asNumber is how a flag is written in both databases.
func asNumber(is bool) int {
	if is {
		return 1
	}
	return 0
}
