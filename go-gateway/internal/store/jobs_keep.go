package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// jobsAtOnce bounds what one statement changes, and so how long others wait for it.
const jobsAtOnce = 500

// SweepJobs makes ready what is due in any queue, and returns how many that were: jobs whose time has come, and those
// whose lease has run out, since whoever had them died or hangs. Any process may do so at any time.
//
// A lease whose end is too far is one from before the clock was set back. It counts as run out.
func (s *Store) SweepJobs(ctx context.Context) (int, error) {
	expired := `state = 'leased' AND (due_at <= ` + s.dialect.now + ` OR due_at > ` + s.dialect.now + fmt.Sprintf(` + %d)`, maxLease.Milliseconds())
	waited := `state = 'later' AND due_at <= ` + s.dialect.now
	var some bool // a look first, as for claims
	err := s.r.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM job WHERE `+expired+`) OR EXISTS (SELECT 1 FROM job WHERE `+waited+`)`).Scan(&some)
	if err != nil || !some {
		return 0, s.explain(err)
	}
	swept := 0
	err = s.write(ctx, func(tx *sql.Tx) error {
		for deaths, due := range []string{waited, expired} {
			done, err := tx.ExecContext(ctx, `UPDATE job SET state = 'ready', owner = '', deaths = deaths + $1 WHERE id IN (
				SELECT id FROM job WHERE `+due+` ORDER BY due_at LIMIT $2`+s.dialect.skipLocked+`)`, deaths, jobsAtOnce)
			if err != nil {
				return err
			}
			rows, err := done.RowsAffected()
			if err != nil {
				return err
			}
			swept += int(rows)
		}
		return nil
	})
	return swept, err
}

// resetLeases makes all leased jobs ready: whoever had them died, since nobody else serves from the data folder. At a full
// disk that waits until they run out, as elsewhere.
func (s *Store) resetLeases(ctx context.Context) error {
	err := s.writeTwice(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE job SET state = 'ready', owner = '', deaths = deaths + 1 WHERE state = 'leased'`)
		return err
	})
	if errors.Is(err, ErrFull) {
		return nil
	}
	return err
}

// PruneJobs removes jobs that ended in a state, done or dead, so long ago, and returns how many of them: a bounded number.
func (s *Store) PruneJobs(ctx context.Context, state string, age time.Duration) (int, error) {
	if state != JobDone && state != JobDead {
		return 0, fmt.Errorf("a job that is %s has not ended", state)
	}
	// The state is no argument, so that its index serves
	return s.remove(ctx, `DELETE FROM job WHERE id IN (
		SELECT id FROM job WHERE state = '`+state+`' AND ended_at < `+s.dialect.now+` - $1 LIMIT $2`+s.dialect.skipLocked+`)`,
		age.Milliseconds(), jobsAtOnce)
}

// CountJobs returns how many jobs of a queue are in each state but done.
func (s *Store) CountJobs(ctx context.Context, queue string) (map[string]int, error) {
	counts := map[string]int{}
	for _, state := range []string{JobReady, JobLeased, JobLater, JobDead} {
		var n int
		err := s.r.QueryRowContext(ctx, `SELECT count(*) FROM job WHERE state = '`+state+`' AND queue = $1`, queue).Scan(&n)
		if err != nil {
			return nil, s.explain(err)
		}
		counts[state] = n
	}
	return counts, nil
}

// replayJob makes a dead job ready, as if it were new, or returns ErrNotFound. What the job is for waits again, too: an async
// job that had failed so is open.
func (s *Store) replayJob(ctx context.Context, tx *sql.Tx, tenant, id string) error {
	err := changeDead(ctx, tx, `UPDATE job SET state = 'ready', errors = 0, deaths = 0, ended_at = NULL, due_at = `+s.dialect.now, tenant, id)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE delivery SET state = 'pending', next_at = NULL, ended_at = NULL WHERE id = $1 AND state = 'dead'`, id)
	if err != nil {
		return err
	}
	return s.reviveAsync(ctx, tx, id)
}

func changeDead(ctx context.Context, tx *sql.Tx, change, tenant, id string) error {
	err := one(tx.ExecContext(ctx, change+` WHERE id = $1 AND (tenant = $2 OR $2 = '') AND state = 'dead'`, id, tenant))
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("there is no dead job %q: %w", id, ErrNotFound)
	}
	return err
}
