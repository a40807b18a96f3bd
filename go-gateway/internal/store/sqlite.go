package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

const sqliteReaders = 4

var sqliteDialect = dialect{
	name:       "SQLite",
	plain:      func(statements string) string { return strings.ReplaceAll(statements, ` COLLATE "C"`, "") }, // its own order
	hasVersion: `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'schema_version'`,
	now:        `CAST(unixepoch('subsec') * 1000 AS INTEGER)`,
	prepare:    func(context.Context, *sql.Tx) error { return nil }, // whoever migrates holds the database's lock
}

// sqliteSource names a database and how to use it. Commits are synced (`normal` would lose the last ones with the power)
// and a transaction takes the write lock when it begins: one that reads first fails at once where another one writes.
func sqliteSource(path string, pragmas ...string) string {
	query := url.Values{"_txlock": {"immediate"}, "_pragma": append([]string{
		"busy_timeout(10000)", "synchronous(full)", "foreign_keys(1)", "temp_store(memory)"}, pragmas...)}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}).String()
}

// openImmutable opens a file that nobody changes, and writes nothing beside it.
func openImmutable(path string) (*sql.DB, error) {
	return sql.Open("sqlite", sqliteSource(path, "query_only(1)")+"&mode=ro&immutable=1")
}

func openSQLite(ctx context.Context, options Options, role Role) (_ *Store, err error) {
	folder, err := filepath.Abs(options.Data)
	if err != nil {
		return nil, err
	}
	if err := prepareFolder(folder, role.makes()); err != nil {
		return nil, err
	}
	path := filepath.Join(folder, databaseFile)
	if _, err := os.Lstat(path); !role.makes() && errors.Is(err, fs.ErrNotExist) {
		return nil, configError("there is no database in %s; `gateway keys create --tenant NAME` makes it", folder)
	}
	s := &Store{dialect: sqliteDialect, place: path}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if role == Gateway {
		lock, err := lockGateway(folder, "a folder serves one")
		if err != nil {
			return nil, err
		}
		s.locks = append(s.locks, lock)
	}
	shared, err := waitLock(ctx, folder, databaseLock, syscall.LOCK_SH)
	readOnly := !role.makes() && cannotWrite(err)
	if readOnly {
		shared, err = lockUnchanged(ctx, folder, path)
	}
	if err != nil {
		return nil, err
	}
	if shared != nil {
		s.locks = append(s.locks, shared)
	}
	if role != Inspector {
		if err := checkCopied(folder); err != nil {
			return nil, err
		}
	}
	if readOnly {
		if err := s.connectReadOnly(path); err != nil {
			return nil, err
		}
		return s, s.bringUpToDate(ctx, role, nil) // which does not migrate for who only reads
	}
	if role.makes() {
		file, err := openPlain(path, os.O_CREATE|os.O_RDWR)
		if err != nil {
			return nil, err
		}
		file.Close()
	}
	if err := s.connectSQLite(path); err != nil {
		return nil, err
	}
	err = s.bringUpToDate(ctx, role, func() error { return s.migrateSQLite(ctx, folder, path, role) })
	if err == nil && role == Gateway {
		s.reserve.path = filepath.Join(folder, reserveFile)
		if err = s.KeepReserve(0); err == nil {
			err = s.resetLeases(ctx)
		}
	}
	return s, err
}

// connectSQLite opens a connection for writing and some for reading.
func (s *Store) connectSQLite(path string) (err error) {
	s.w, err = sql.Open("sqlite", sqliteSource(path, "journal_size_limit(67108864)"))
	if err != nil {
		return err
	}
	s.w.SetMaxOpenConns(1)
	s.r, err = sql.Open("sqlite", sqliteSource(path, "query_only(1)"))
	if err != nil {
		return err
	}
	s.r.SetMaxOpenConns(sqliteReaders)
	s.r.SetMaxIdleConns(sqliteReaders)
	return s.explain(s.w.Ping())
}

// migrateSQLite brings the schema up to date while nobody else has the database open.
func (s *Store) migrateSQLite(ctx context.Context, folder, path string, role Role) (err error) {
	held := s.locks[:len(s.locks)-1]
	if err := errors.Join(s.r.Close(), s.w.Close(), s.locks[len(s.locks)-1].Close()); err != nil {
		return err
	}
	s.w, s.r, s.locks = nil, nil, held
	if role == Migrator {
		lock, err := lockGateway(folder, "its database is not changed beneath it")
		if err != nil {
			return err
		}
		defer lock.Close()
	}
	alone, err := waitLock(ctx, folder, databaseLock, syscall.LOCK_EX)
	if err != nil {
		return err
	}
	s.locks = append(s.locks, alone)
	if err := s.connectSQLite(path); err != nil {
		return err
	}
	if err := writeAhead(ctx, s.w); err != nil {
		return s.explain(err)
	}
	if err := s.migrate(ctx); err != nil {
		return err
	}
	if err := syscall.Flock(int(alone.Fd()), syscall.LOCK_SH); err != nil {
		return fmt.Errorf("share %s: %w", alone.Name(), err)
	}
	return nil
}

// writeAhead gives a database a journal that is written ahead, for good: readers and the writer then do not wait for each
// other. Nobody else may have the database open, as SQLite fails at once rather than wait for them.
func writeAhead(ctx context.Context, db *sql.DB) error {
	var mode string
	if err := db.QueryRowContext(ctx, `PRAGMA journal_mode = wal`).Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return configError("SQLite keeps a journal of kind %q here: the data folder must be on a local file system", mode)
	}
	return nil
}
