package store

import (
	"context"
	"database/sql"
	"net/url"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	postgresSchema = "triptych"
	// oldestPostgres is the first version whose behaviour the tests hold to.
	oldestPostgres      = 15
	postgresConnections = 16
	// A replica that hangs inside of a transaction holds locks that the others wait for.
	postgresIdleInTransaction = 10 * time.Second
	postgresConnectTimeout    = 5 * time.Second
	// migrationLock is a number that nothing else in the database locks: "triptych" in ASCII.
	migrationLock = 0x7472697074796368
)

var postgresDialect = dialect{
	name:       "PostgreSQL",
	plain:      func(statements string) string { return statements },
	hasVersion: `SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname = '` + postgresSchema + `' AND tablename = 'schema_version'`,
	now:        `(extract(epoch FROM statement_timestamp()) * 1000)::bigint`,
	skipLocked: ` FOR UPDATE SKIP LOCKED`,
	notify:     `SELECT pg_notify($1, $2)`,
	prepare: func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
			return err
		}
		// To make what is there needs the right to make it, so it is looked for first.
		var found int
		err := tx.QueryRowContext(ctx, `SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = $1`, postgresSchema).Scan(&found)
		if err == nil && found == 0 {
			_, err = tx.ExecContext(ctx, `CREATE SCHEMA `+postgresSchema)
		}
		return err
	},
}

// parsePostgres refuses what is no URL of PostgreSQL. Its error does not repeat the URL, which may hold a password.
func parsePostgres(databaseURL string) (*pgx.ConnConfig, string, error) {
	refused := configError("the database URL must be as postgres://USER:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full " +
		"(it is not shown, since it may hold a password)")
	parsed, err := url.Parse(databaseURL)
	if err != nil || (parsed.Scheme != "postgres" && parsed.Scheme != "postgresql") {
		return nil, "", refused
	}
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return nil, "", refused
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = postgresConnectTimeout
	}
	config.RuntimeParams["search_path"] = postgresSchema
	config.RuntimeParams["idle_in_transaction_session_timeout"] = strconv.FormatInt(postgresIdleInTransaction.Milliseconds(), 10)
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "triptych-gateway"
	}
	return config, "PostgreSQL at " + config.Host + ", database " + config.Database, nil
}

func openPostgres(ctx context.Context, options Options, role Role) (_ *Store, err error) {
	config, place, err := parsePostgres(options.DatabaseURL)
	if err != nil {
		return nil, err
	}
	db := openPool(config)
	s := &Store{dialect: postgresDialect, place: place, w: db, r: db}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if err := s.checkPostgres(ctx); err != nil {
		return nil, err
	}
	if role.makes() {
		if err := s.checkPostgresWritable(ctx); err != nil {
			return nil, err
		}
	}
	return s, s.bringUpToDate(ctx, role, func() error { return s.migrate(ctx) })
}

func openPool(config *pgx.ConnConfig) *sql.DB {
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(postgresConnections)
	db.SetMaxIdleConns(postgresConnections / 4)
	db.SetConnMaxIdleTime(5 * time.Minute)
	db.SetConnMaxLifetime(time.Hour) // so that all find their way to a new primary
	return db
}

// checkPostgres refuses a server that does not keep what is promised.
func (s *Store) checkPostgres(ctx context.Context) error {
	var version, commit string
	err := s.r.QueryRowContext(ctx, `SELECT current_setting('server_version_num'), current_setting('synchronous_commit')`).Scan(&version, &commit)
	if err != nil {
		return s.explain(err)
	}
	if number, err := strconv.Atoi(version); err != nil || number/10000 < oldestPostgres {
		return configError("%s: PostgreSQL %d or newer is needed, this is %s", s.place, oldestPostgres, version)
	}
	if commit == "off" {
		return configError("%s: synchronous_commit is off, so that keys which were shown could be lost: "+
			"turn it on for this role or database", s.place)
	}
	return nil
}

// checkPostgresWritable refuses a server, or a database, that can only be read.
func (s *Store) checkPostgresWritable(ctx context.Context) error {
	var readOnly string
	var standby bool
	err := s.r.QueryRowContext(ctx, `SELECT current_setting('transaction_read_only'), pg_is_in_recovery()`).Scan(&readOnly, &standby)
	switch {
	case err != nil:
		return s.explain(err)
	case standby:
		return configError("%s: %w: it is a standby, or recovers: name the primary, or all hosts and target_session_attrs=read-write; "+
			"commands that only read do with it", s.place, ErrUnwritable)
	case readOnly == "on":
		return configError("%s: %w: default_transaction_read_only is on: turn it off for this server, database and role; "+
			"commands that only read do with it", s.place, ErrUnwritable)
	}
	return nil
}
