package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrNeeded means that something waits for what was to be removed.
var ErrNeeded = errors.New("it is still needed")

// JobCount is how many jobs of a queue are in a state, and when the oldest of them was added.
type JobCount struct {
	Queue, State string
	Jobs         int64
	Oldest       time.Time
}

// JobCounts returns the counts of all queues and states that have jobs.
func (s *Store) JobCounts(ctx context.Context) ([]JobCount, error) {
	counts, err := query(ctx, s, func(row scanner) (count JobCount, err error) {
		var oldest int64
		err = row.Scan(&count.Queue, &count.State, &count.Jobs, &oldest)
		count.Oldest = time.UnixMilli(oldest).UTC()
		return count, err
	}, `SELECT queue, state, count(*), min(created_at) FROM job GROUP BY queue, state`)
	slices.SortFunc(counts, func(a, b JobCount) int { return cmp.Or(cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.State, b.State)) })
	return counts, err
}

// JobsPage is a part of the list of all jobs. What is empty does not count.
type JobsPage struct {
	Tenant, Queue, State string
	Before               string // the last job of the page before
	Most                 int
}

// HeldJob is a job, with who has it.
type HeldJob struct {
	Job
	Owner string    // empty: nobody
	Ended time.Time // zero: it has not
}

const heldColumns = jobColumns + `, owner, ended_at`

// JobsPage returns a page of jobs, the greatest ids first. It is for people: no index helps with most filters.
func (s *Store) JobsPage(ctx context.Context, page JobsPage) ([]HeldJob, error) {
	return query(ctx, s, scanHeld, `SELECT `+heldColumns+` FROM job WHERE (tenant = $1 OR $1 = '') AND (queue = $2 OR $2 = '')
		AND (state = $3 OR $3 = '') AND (id < $4 OR $4 = '') ORDER BY id DESC LIMIT $5`, page.Tenant, page.Queue, page.State, page.Before, page.Most)
}

// FindHeldJob returns a job, or ErrNotFound.
func (s *Store) FindHeldJob(ctx context.Context, id string) (HeldJob, error) {
	job, err := findHeld(ctx, s.r, id)
	return job, s.explain(err)
}

func findHeld(ctx context.Context, q querier, id string) (HeldJob, error) {
	job, err := scanHeld(q.QueryRowContext(ctx, `SELECT `+heldColumns+` FROM job WHERE id = $1`, id))
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("there is no job %.200q: %w", id, ErrNotFound)
	}
	return job, err
}

// further are columns behind those that a scan knows.
type further struct {
	scanner
	into []any
}

func (f further) Scan(into ...any) error { return f.scanner.Scan(append(into, f.into...)...) }

func scanHeld(row scanner) (job HeldJob, err error) {
	var ended sql.NullInt64
	job.Job, err = scanJob(further{row, []any{&job.Owner, &ended}})
	job.Ended = timeOf(ended)
	return job, err
}

// ReplayDead makes a dead job ready, as if it were new, and adds the act to the audit log.
func (s *Store) ReplayDead(ctx context.Context, id string, actOf func(Job) AuditEntry) (Job, error) {
	return s.actOnDead(ctx, id, actOf, func(tx *sql.Tx, job Job) error { return s.replayJob(ctx, tx, job.Tenant, id) })
}

// DropDead removes a dead job, and adds the act to the audit log. ErrNeeded: a batch waits for it.
func (s *Store) DropDead(ctx context.Context, id string, actOf func(Job) AuditEntry) (Job, error) {
	return s.actOnDead(ctx, id, actOf, func(tx *sql.Tx, job Job) error {
		if err := checkUnneeded(ctx, tx, job); err != nil {
			return err
		}
		return changeDead(ctx, tx, `DELETE FROM job`, job.Tenant, id)
	})
}

func (s *Store) actOnDead(ctx context.Context, id string, actOf func(Job) AuditEntry, change func(tx *sql.Tx, job Job) error) (Job, error) {
	var job HeldJob
	err := s.write(ctx, func(tx *sql.Tx) error {
		// First, since the row's lock is what keeps two entries of the audit log from having one id.
		if err := one(tx.ExecContext(ctx, `UPDATE change_counter SET version = version WHERE topic = 'keys'`)); err != nil {
			return err
		}
		var err error
		if job, err = findHeld(ctx, tx, id); err != nil {
			return err
		}
		if job.State != JobDead {
			return fmt.Errorf("the job %.200q is %s, not dead: %w", id, job.State, ErrNotFound)
		}
		if err := change(tx, job.Job); err != nil {
			return err
		}
		return addAudit(ctx, tx, actOf(job.Job))
	})
	return job.Job, err
}

// checkUnneeded refuses a job without which its batch would not end.
func checkUnneeded(ctx context.Context, tx *sql.Tx, job Job) error {
	var batch string
	switch job.Kind {
	case SegmentJob:
		batch, _, _ = ParseSegmentJob(job.Args)
	case FinalizeJob:
		batch = job.Args
	default:
		return nil
	}
	var waits bool
	err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM batch WHERE id = $1 AND tenant = $2 AND ended_at IS NULL)`, batch, job.Tenant).Scan(&waits)
	if err == nil && waits {
		err = fmt.Errorf("the batch %s waits for the job %s: replay it, or have the tenant cancel the batch: %w", batch, job.ID, ErrNeeded)
	}
	return err
}
