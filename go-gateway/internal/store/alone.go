package store

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"triptych.dev/gateway/internal/periodic"
)

// ErrBusy means that others ran until one's patience was over.
var ErrBusy = errors.New("others run")

// Gateways on one PostgreSQL run beside each other, or one of them alone, by a lock on nothing but a number. It is a transaction's, so
// that it ends with its gateway, and with one that hangs: see postgresIdleInTransaction.
const (
	runLock = `1953655152, 1` // "trip": no other program of the database is likely to have it
	// aloneWanted asks whether somebody waits to run alone.
	aloneWanted = `SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = 1953655152 AND objid = 1
		AND mode = 'ExclusiveLock' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`

	lockNotAvailable = "55P03"
)

// IsShared reports whether several gateways may run at once.
func (s *Store) IsShared() bool { return s.dialect.notify != "" }

// RunBeside waits until no other gateway runs alone, and keeps them from that during a call. That asks wanted, each second or so, whether
// one waits to.
func (s *Store) RunBeside(ctx context.Context, during func(wanted func() (bool, error)) error) error {
	tx, err := s.w.BeginTx(ctx, nil)
	if err != nil {
		return s.explain(err)
	}
	defer tx.Rollback() // there is nothing to be kept
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock_shared(`+runLock+`)`); err != nil {
		return s.explain(err)
	}
	return during(func() (is bool, err error) {
		err = tx.QueryRowContext(ctx, aloneWanted).Scan(&is)
		return is, s.explain(err)
	})
}

// RunAlone waits until no gateway runs beside others, and keeps them from that until end is called. After some time it returns ErrBusy.
func (s *Store) RunAlone(ctx context.Context, patience time.Duration) (end func(), err error) {
	lasting := context.WithoutCancel(ctx)
	tx, err := s.w.BeginTx(lasting, nil)
	if err != nil {
		return nil, s.explain(err)
	}
	if _, err = tx.ExecContext(ctx, `SELECT set_config('lock_timeout', $1, true)`, strconv.FormatInt(patience.Milliseconds(), 10)); err == nil {
		_, err = tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(`+runLock+`)`)
	}
	if err != nil {
		_ = tx.Rollback()
		if refused, is := errors.AsType[*pgconn.PgError](err); is && refused.Code == lockNotAvailable {
			return nil, ErrBusy
		}
		return nil, s.explain(err)
	}
	keeping, stop := context.WithCancel(lasting)
	var kept sync.WaitGroup
	kept.Go(func() {
		periodic.Every(keeping, postgresIdleInTransaction/3, func(context.Context) {
			_, _ = tx.ExecContext(lasting, `SELECT 1`) // a lock that is lost with its connection cannot be had back
		})
	})
	return func() {
		stop()
		kept.Wait()
		_ = tx.Rollback()
	}, nil
}
