package store

import (
	"context"
	"database/sql"
	"testing"
)

// AsWorker is what the test binary does instead of tests when asked to: the other side of tests with processes.
var AsWorker func()

// Everywhere runs a test on each database.
func Everywhere(t *testing.T, test func(t *testing.T, options Options)) { everywhere(t, test) }

// PrepareEffects makes a table of what jobs have done, and one that sets the clock.
func (s *Store) PrepareEffects(t *testing.T) {
	t.Helper()
	execute(t, s, `CREATE TABLE effect (job TEXT NOT NULL, attempt BIGINT NOT NULL)`) // no key, which would hide a second one
	execute(t, s, `CREATE TABLE skew (ms BIGINT NOT NULL)`)
	execute(t, s, `INSERT INTO skew VALUES (0)`)
}

// FinishWithEffect finishes a job and writes its effect, in one transaction.
func (s *Store) FinishWithEffect(ctx context.Context, job Job) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO effect VALUES ($1, $2)`, job.ID, job.Attempt); err != nil {
			return err
		}
		return s.finishJob(ctx, tx, job)
	})
}

// Count counts what a query for a number finds.
func (s *Store) Count(t *testing.T, query string, args ...any) int {
	t.Helper()
	return count(t, s.r, query, args...)
}

// FollowSkew has the clock go by the table that PrepareEffects made.
func (s *Store) FollowSkew() { s.dialect.now = `(` + s.dialect.now + ` + (SELECT ms FROM skew))` }

// SetSkew sets the clock of all that follow it.
func (s *Store) SetSkew(ctx context.Context, ms int64) error {
	_, err := s.w.ExecContext(ctx, `UPDATE skew SET ms = $1`, ms)
	return err
}

// CopyAndTell is Copy that tells a test of each step: how many rows were copied, and then, by -1, that all were.
func CopyAndTell(ctx context.Context, options Options, to string, tell func(done int64)) error {
	_, err := Copy(ctx, options, CopyOptions{
		To: to, Check: func(*Store) error { return nil },
		Progress: func(_ string, done, _ int64) { tell(done) }, copied: func() { tell(-1) },
	})
	return err
}

// FillJobs adds jobs that are done, and one that waits.
func FillJobs(t testing.TB, s *Store, n int) { fillJobs(t, s, n, 0) }
