package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// explain says in words what a database's error means for whoever runs the gateway. Errors of the store itself, and those
// that say enough, stay as they are.
func (s *Store) explain(err error) error {
	if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrExists) || errors.Is(err, ErrLost) || errors.Is(err, ErrEnded) || errors.Is(err, ErrNeeded) || errors.Is(err, context.Canceled) {
		return err
	}
	if _, said := errors.AsType[ConfigError](err); said {
		return err
	}
	if said, ok := errors.AsType[*sqlite.Error](err); ok {
		return s.explainSQLite(said.Code(), err)
	}
	if said, ok := errors.AsType[*pgconn.PgError](err); ok {
		return s.explainPostgres(said.Code, err)
	}
	return fmt.Errorf("%s: %w", s.place, err)
}

// isAnswer reports whether what undid a transaction is the answer to who asked for it, and no fault.
func isAnswer(err error) bool {
	for _, answer := range []error{ErrNotFound, ErrExists, ErrLost, ErrEnded, ErrNeeded, ErrDecided, ErrWebhookLimit} {
		if errors.Is(err, answer) {
			return true
		}
	}
	_, answered := errors.AsType[ErrAnswered](err)
	_, batches := errors.AsType[ErrBatchLimit](err)
	_, files := errors.AsType[ErrShare](err)
	return answered || batches || files
}

func (s *Store) explainSQLite(code int, err error) error {
	switch code & 0xff { // the rest is detail
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%s: %w; nothing was changed: %w", s.place, ErrFull, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return configError("%s: %w: the data folder, or its file system, is read-only: %w", s.place, ErrUnwritable, err)
	case sqlite3.SQLITE_IOERR: // as where the system has made a file system read-only for its faults
		return fmt.Errorf("%s: %w: its disk is failing, or was made read-only: mend it, and restart the gateway: %w", s.place, ErrUnwritable, err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%s: another process kept it busy; try again: %w", s.place, err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%s: the database is damaged, or its disk is failing: stop the gateway and run "+
			"`gateway data check`; `gateway data restore --from FILE` puts a backup back: %w", s.place, err)
	default:
		return fmt.Errorf("%s: %w", s.place, err)
	}
}

// Codes of PostgreSQL, by their class or whole.
const (
	postgresNoPrivilege = "42501"
	postgresDiskFull    = "53100"
	postgresReadOnly    = "25006"
)

func (s *Store) explainPostgres(code string, err error) error {
	switch code {
	case postgresNoPrivilege:
		return configError("%s: the role may not do that; it must own the schema %s, or be allowed to make it: %w",
			s.place, postgresSchema, err)
	case postgresDiskFull:
		return fmt.Errorf("%s: %w; nothing was changed: %w", s.place, ErrFull, err)
	case postgresReadOnly:
		return fmt.Errorf("%s: %w; it is a standby, or default_transaction_read_only is on: %w", s.place, ErrUnwritable, err)
	default:
		return fmt.Errorf("%s: %w", s.place, err)
	}
}
