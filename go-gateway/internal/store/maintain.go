package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"triptych.dev/gateway/internal/disk"
)

// ErrPostgresTools means that PostgreSQL has its own way.
var ErrPostgresTools = ConfigError{errors.New("PostgreSQL has its own tools for that: " +
	"`pg_dump --schema=" + postgresSchema + "` makes a backup, and `pg_restore` puts it back while no gateway runs")}

// Migrate makes the schema, or brings an older one up to date, and returns the versions before and after.
func Migrate(ctx context.Context, options Options) (from, to int, err error) {
	s, err := Open(ctx, options, Migrator)
	if err != nil {
		return 0, 0, err
	}
	from, to = s.Migrated()
	return from, to, s.Close()
}

// CheckOptions finds what would keep a gateway from a store, and changes nothing. Where there is none yet, nothing does.
func CheckOptions(ctx context.Context, options Options) error {
	if !options.Postgres() {
		path := filepath.Join(options.Data, databaseFile)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	s, err := Open(ctx, options, Checker)
	if err != nil {
		return err
	}
	return errors.Join(s.checkWritable(ctx, options), s.Close())
}

// Health is what Check found.
type Health struct {
	Place    string
	Database string // which, and its version
	Schema   int
	Keys     int
}

// Check looks for damage: of the database's structure, and of what a gateway would refuse.
func (s *Store) Check(ctx context.Context) (Health, error) {
	h := Health{Place: s.place}
	var version string
	query := `SELECT sqlite_version()`
	if s.dialect.name == postgresDialect.name {
		query = `SELECT current_setting('server_version')`
	} else if err := s.checkSQLite(ctx); err != nil {
		return h, err
	}
	if err := s.r.QueryRowContext(ctx, query).Scan(&version); err != nil {
		return h, s.explain(err)
	}
	h.Database = s.dialect.name + " " + version
	var err error
	if h.Schema, err = s.schema(ctx); err != nil {
		return h, err
	}
	if err := errors.Join(s.checkFileUsage(ctx), s.checkOpenJobs(ctx)); err != nil {
		return h, err
	}
	keys, err := s.Keys(ctx, "")
	h.Keys = len(keys)
	return h, err
}

// checkFileUsage compares what is counted of files with their rows.
func (s *Store) checkFileUsage(ctx context.Context) error {
	var wrong int
	err := s.r.QueryRowContext(ctx, `SELECT count(*) FROM file_usage AS counted
		LEFT JOIN (SELECT tenant, count(*) AS files, sum(bytes) AS bytes FROM file GROUP BY tenant) AS found ON found.tenant = counted.tenant
		WHERE counted.files <> coalesce(found.files, 0) OR counted.bytes <> coalesce(found.bytes, 0)`).Scan(&wrong)
	if err == nil && wrong > 0 {
		err = fmt.Errorf("%s is damaged: of %d tenants the files are not as many, or not as large, as is counted", s.place, wrong)
	}
	return s.explain(err)
}

// checkOpenJobs compares what is counted of jobs that have not ended, and of texts that wait for people, with their rows.
func (s *Store) checkOpenJobs(ctx context.Context) error {
	var wrong int
	err := s.r.QueryRowContext(ctx, `SELECT count(*) FROM batch_limit AS counted
		LEFT JOIN (SELECT tenant, count(*) AS jobs, sum(body_bytes) AS bytes, sum(inputs) AS inputs,
				sum(CASE WHEN inputs > 0 THEN body_bytes ELSE 0 END) AS review_bytes FROM async_job
			WHERE ended_at IS NULL GROUP BY tenant) AS found ON found.tenant = counted.tenant
		LEFT JOIN (SELECT tenant, sum(reviews) AS reviews, sum(bytes) AS bytes FROM (
				SELECT tenant, count(*) AS reviews, max(content_bytes) AS bytes FROM moderation_review WHERE decided_at IS NULL GROUP BY tenant, job) AS of_job
			GROUP BY tenant) AS pending ON pending.tenant = counted.tenant
		WHERE counted.jobs <> coalesce(found.jobs, 0) OR counted.job_bytes <> coalesce(found.bytes, 0)
			OR counted.reviews <> coalesce(found.inputs, 0) + coalesce(pending.reviews, 0)
			OR counted.review_bytes <> coalesce(found.review_bytes, 0) + coalesce(pending.bytes, 0)`).Scan(&wrong)
	if err == nil && wrong > 0 {
		err = fmt.Errorf("%s is damaged: of %d tenants the open jobs, or the reviews that wait, are not as many as is counted", s.place, wrong)
	}
	return s.explain(err)
}

func (s *Store) checkSQLite(ctx context.Context) error {
	faults, err := s.lines(ctx, `PRAGMA integrity_check(20)`)
	if err == nil && (len(faults) != 1 || faults[0] != "ok") {
		err = fmt.Errorf("%s is damaged: %s", s.place, strings.Join(faults, "; "))
	}
	if err != nil {
		return s.explain(err)
	}
	faults, err = s.lines(ctx, `SELECT "table" || ' row ' || coalesce(rowid, 0) || ' names a row of ' || parent || ' that is not there' FROM pragma_foreign_key_check()`)
	if err == nil && len(faults) > 0 {
		err = fmt.Errorf("%s is damaged: %s", s.place, strings.Join(faults, "; "))
	}
	return s.explain(err)
}

// lines returns the first column of what a query finds.
func (s *Store) lines(ctx context.Context, query string) (lines []string, err error) {
	rows, err := s.r.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	return lines, rows.Err()
}

// Backup writes a copy of a SQLite database to a new file, as of one moment, while gateways and commands go on.
func (s *Store) Backup(ctx context.Context, to string) error {
	return s.BackupWith(ctx, to, func(*Store) error { return nil })
}

// BackupWith is Backup with something beside the database, which the rows of the copy name: keep must have it before the
// copy gets its name. Where keep fails, there is no backup.
func (s *Store) BackupWith(ctx context.Context, to string, keep func(copied *Store) error) (err error) {
	if s.dialect.name == postgresDialect.name {
		return ErrPostgresTools
	}
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return configError("%s exists already; a backup replaces nothing", to)
	}
	partial := to + ".partial" // so that what bears the name is whole
	file, err := openPlain(partial, os.O_CREATE|os.O_RDWR|os.O_TRUNC)
	if err != nil {
		return err
	}
	defer func() {
		file.Close()
		if err != nil {
			os.Remove(partial)
		}
	}()
	if err := file.Chmod(0o600); err != nil {
		return err
	}
	if _, err := s.w.ExecContext(ctx, `VACUUM INTO $1`, partial); err != nil { // into a file that is empty
		return s.explain(err)
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := s.showCopy(partial, keep); err != nil {
		return err
	}
	if err := os.Rename(partial, to); err != nil {
		return err
	}
	return disk.SyncFolder(filepath.Dir(to))
}

// showCopy lets keep read a copy.
func (s *Store) showCopy(path string, keep func(copied *Store) error) (err error) {
	copied := &Store{dialect: sqliteDialect, place: path}
	if copied.r, err = openImmutable(path); err != nil {
		return err
	}
	copied.w = copied.r
	return errors.Join(keep(copied), copied.Close())
}

// Restore puts a backup in the place of a data folder's database while no gateway runs, after a look at it. It returns
// the backup's version of the schema; an older one is brought up to date by the next start.
func Restore(ctx context.Context, options Options, from string) (schema int, err error) {
	if options.Postgres() {
		return 0, ErrPostgresTools
	}
	folder, err := filepath.Abs(options.Data)
	if err != nil {
		return 0, err
	}
	if err := prepareFolder(folder, true); err != nil {
		return 0, err
	}
	lock, err := lockGateway(folder, "its database is not replaced beneath it")
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	alone, err := waitLock(ctx, folder, databaseLock, syscall.LOCK_EX)
	if err != nil {
		return 0, err
	}
	defer alone.Close()
	if err := checkCopied(folder); err != nil {
		return 0, err
	}
	path := filepath.Join(folder, databaseFile)
	fresh := path + ".restored"
	defer os.Remove(fresh) // gone already when all went well
	if err := copyFile(from, fresh); err != nil {
		return 0, err
	}
	if schema, err = lookAt(ctx, fresh, from); err != nil {
		return 0, err
	}
	if err := convert(ctx, fresh); err != nil {
		return 0, err
	}
	settle(ctx, path)
	// What the old database had in its journal must not be read into the new one.
	for _, journal := range []string{path + "-wal", path + "-shm", path + "-journal"} {
		if err := os.Remove(journal); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
	}
	if err := os.Rename(fresh, path); err != nil {
		return 0, err
	}
	return schema, disk.SyncFolder(folder)
}

// convert gives a copy of a backup the journal that the gateway's database has: SQLite's backups have another.
func convert(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", sqliteSource(path))
	if err != nil {
		return err
	}
	return errors.Join(writeAhead(ctx, db), db.Close())
}

// settle writes what is in the old database's journal into it, as far as that works: it may be damaged, and is what a
// crash before the end of a restore leaves.
func settle(ctx context.Context, path string) {
	if _, err := os.Stat(path); err != nil {
		return
	}
	old := &Store{dialect: sqliteDialect, place: path}
	if err := old.connectSQLite(path); err == nil {
		_, _ = old.w.ExecContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`)
	}
	_ = old.Close()
}

// copyFile makes a synced copy that is its owner's alone, of a file that may be a link.
func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return configError("the backup: %w", err)
	}
	defer source.Close()
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	target, err := openPlain(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Sync(), target.Close())
}

// lookAt refuses a copy of a backup that is no whole database of ours, or a newer program's.
func lookAt(ctx context.Context, path, name string) (schema int, err error) {
	s := &Store{dialect: sqliteDialect, place: name}
	defer func() { err = errors.Join(err, s.Close()) }()
	if s.r, err = openImmutable(path); err != nil {
		return 0, err
	}
	s.w = s.r
	if err := s.checkSQLite(ctx); err != nil {
		return 0, configError("%w; nothing was restored", err)
	}
	if schema, err = s.schema(ctx); err == nil && schema == 0 {
		err = configError("%s is no backup of a gateway; nothing was restored", name)
	}
	return schema, err
}
