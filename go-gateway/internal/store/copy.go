package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// Copied is what Copy did.
type Copied struct {
	Place  string // of the copy
	Tables []CopiedTable
	// Before says that the copy was there already, whole, and only its source did not say so.
	Before bool
}

// CopiedTable is a table that is the same on both sides.
type CopiedTable struct {
	Name string
	Rows int64
	Hash string // of all rows, in whatever order
}

// Rows is how many there are in all tables.
func (c Copied) Rows() (rows int64) {
	for _, table := range c.Tables {
		rows += table.Rows
	}
	return rows
}

// CopyOptions are what whoever copies has to do with it.
type CopyOptions struct {
	To string // PostgreSQL's URL
	// Check looks at what is to be copied, and may refuse that.
	Check func(source *Store) error
	// Progress is told every thousand rows how many were copied, and of how many; nil: nobody is.
	Progress func(table string, done, total int64)
	// copied is told when the copy is whole, and its source does not say so yet: tests are killed here.
	copied func()
}

// Copy copies a data folder's database into an empty one of PostgreSQL while nobody uses the former, and keeps it from being
// used again. All tables are copied in one transaction, which ends only if each has as many rows, and the same ones, on both
// sides. So a copy that is cut off leaves nothing; after one that was cut off at its very end, the next call ends it.
func Copy(ctx context.Context, options Options, how CopyOptions) (copied Copied, err error) {
	source, folder, err := openSource(ctx, options)
	if err != nil {
		return Copied{}, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	if err := how.Check(source); err != nil {
		return Copied{}, err
	}
	target, err := openTarget(ctx, Options{DatabaseURL: how.To})
	if err != nil {
		return Copied{}, err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	connection, err := target.w.Conn(ctx)
	if err != nil {
		return Copied{}, target.explain(err)
	}
	defer connection.Close()
	c := &copier{source: source, target: target, progress: how.Progress}
	err = connection.Raw(func(driver any) error { return c.run(ctx, driver.(*stdlib.Conn).Conn()) })
	if err != nil {
		return Copied{}, err
	}
	if how.copied != nil {
		how.copied()
	}
	c.copied.Place = target.Place()
	return c.copied, markCopied(folder, fmt.Sprintf("%s, at %s", target.Place(), time.Now().UTC().Format(time.RFC3339)))
}

// openSource opens a data folder's database alone.
func openSource(ctx context.Context, options Options) (_ *Store, folder string, err error) {
	if options.Postgres() {
		return nil, "", ErrPostgresTools
	}
	if folder, err = filepath.Abs(options.Data); err != nil {
		return nil, "", err
	}
	if err := prepareFolder(folder, false); err != nil {
		return nil, "", err
	}
	path := filepath.Join(folder, databaseFile)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, "", configError("there is no database in %s", folder)
	}
	s := &Store{dialect: sqliteDialect, place: path}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	lock, err := lockGateway(folder, "its database is not copied beneath it")
	if err != nil {
		return nil, "", err
	}
	s.locks = append(s.locks, lock)
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	alone, err := waitLock(ctx, folder, databaseLock, syscall.LOCK_EX)
	if err != nil {
		return nil, "", err
	}
	s.locks = append(s.locks, alone)
	if err := checkCopied(folder); err != nil {
		return nil, "", err
	}
	if err := s.connectSQLite(path); err != nil {
		return nil, "", err
	}
	if s.found, err = s.schema(ctx); err == nil && s.found != newestSchema {
		err = configError("%s: its schema is version %d and this program copies %d: run `gateway data migrate` first", s.place, s.found, newestSchema)
	}
	return s, folder, err
}

// openTarget opens the database to copy to, and makes the tables where there are none.
func openTarget(ctx context.Context, options Options) (*Store, error) {
	s, err := Open(ctx, options, Checker)
	if err != nil {
		return nil, err
	}
	if s.found == newestSchema {
		return s, nil
	}
	if s.found > 0 {
		return nil, errors.Join(configError("%s: its schema is version %d and this program needs %d: it is used already; a copy goes into an empty database",
			s.place, s.found, newestSchema), s.Close())
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	return Open(ctx, options, Migrator)
}

// copier copies from one store to another one.
type copier struct {
	source, target *Store
	progress       func(table string, done, total int64)
	done, total    int64 // rows
	copied         Copied
}

// run copies all tables in one transaction, or finds that they were copied before.
func (c *copier) run(ctx context.Context, target *pgx.Conn) error {
	tables, err := c.source.tables(ctx)
	if err != nil {
		return err
	}
	for _, table := range tables {
		c.total += table.rows
	}
	tx, err := target.Begin(ctx)
	if err != nil {
		return c.target.explain(err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // after a commit it does nothing
	if err := lockTables(ctx, tx, tables); err != nil {
		return c.target.explain(err)
	}
	used, err := firstUsed(ctx, tx, tables)
	if err != nil {
		return c.target.explain(err)
	}
	for _, table := range tables {
		if err := c.table(ctx, tx, table, used != ""); err != nil {
			if _, differs := errors.AsType[differError](err); differs && used != "" {
				return configError("%s is not empty: there are rows in its table %s, and they are not a copy of these (%w). Copy to an empty database",
					c.target.place, used, err)
			}
			return err
		}
	}
	c.copied.Before = used != ""
	if c.copied.Before {
		return nil
	}
	return c.target.explain(tx.Commit(ctx))
}
