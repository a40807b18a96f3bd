package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"time"
)

// migrations are files whose names begin with the version that they lead to. They are written once for both databases:
// TEXT and BIGINT alone, times in milliseconds. One that was released never changes.
//
//go:embed migrations/*.sql
var migrations embed.FS

var (
	migrationFiles = mustList()
	readMigration  = migrations.ReadFile
)

// newestSchema is the version that this program works with.
var newestSchema = len(migrationFiles)

func mustList() []string {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		panic(err)
	}
	return names // in order
}

// schema returns the version of the database's schema: 0 where there is none.
func (s *Store) schema(ctx context.Context) (int, error) {
	version, err := s.readSchema(ctx, s.r)
	if err == nil && version > newestSchema {
		err = configError("%s: its schema is version %d and this program knows %d: a newer gateway has used it; "+
			"use that one, or restore a backup from before", s.place, version, newestSchema)
	}
	return version, s.explain(err)
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func (s *Store) readSchema(ctx context.Context, q querier) (version int, err error) {
	if err := q.QueryRowContext(ctx, s.dialect.hasVersion).Scan(&version); err != nil || version == 0 {
		return 0, err
	}
	err = q.QueryRowContext(ctx, `SELECT coalesce(max(version), 0) FROM schema_version`).Scan(&version)
	return version, err
}

// bringUpToDate migrates an older schema, where the role is to.
func (s *Store) bringUpToDate(ctx context.Context, role Role, migrate func() error) (err error) {
	if s.found, err = s.schema(ctx); err != nil || s.found == newestSchema || role == Checker {
		return err
	}
	if err := mayMigrate(s.found, role); err != nil {
		return err
	}
	return migrate()
}

// mayMigrate refuses to change a schema beneath a gateway that may be running with it.
func mayMigrate(found int, role Role) error {
	switch {
	case found == 0 && !role.makes():
		return configError("the database is empty; `gateway keys create --tenant NAME` makes its tables")
	case found > 0 && (!role.makes() || role == Command):
		return configError("the database's schema is version %d and this program needs %d: stop the gateway and run "+
			"`gateway data migrate`, or start this version of it, which does so itself", found, newestSchema)
	default:
		return nil
	}
}

// migrate brings the schema up to date: all of it in one transaction, alone.
func (s *Store) migrate(ctx context.Context) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		if err := s.dialect.prepare(ctx, tx); err != nil {
			return err
		}
		found, err := s.readSchema(ctx, tx) // again: another process may have been first
		if err != nil {
			return err
		}
		for version := found + 1; version <= newestSchema; version++ {
			name := migrationFiles[version-1]
			statements, err := readMigration(name)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, s.dialect.plain(string(statements))); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			_, err = tx.ExecContext(ctx, `INSERT INTO schema_version (version, applied_at) VALUES ($1, $2)`, version, time.Now().UnixMilli())
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	})
}
