package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"triptych.dev/gateway/internal/tracing"
)

// ErrLost means that a job is no longer its caller's: its lease ran out and was given to another, or it has ended.
// Nothing was written.
var ErrLost = errors.New("the job's lease was lost")

// States of a job.
const (
	JobReady  = "ready"  // to be claimed
	JobLeased = "leased" // somebody has it, until its lease runs out
	JobLater  = "later"  // waits for its time
	JobDone   = "done"
	JobDead   = "dead" // was given up, and waits for somebody to look at it
)

const (
	// maxLease bounds leases, and so how far a lease's end can be if no clock was set back.
	maxLease = 10 * time.Minute
	// maxJobError bounds what is kept of an error.
	maxJobError = 2000
)

// Job is a piece of work. Of a new one ID, Queue, Tenant, Kind, Args, Priority and Due count, and its cause is its context's.
type Job struct {
	ID, Queue, Tenant string
	Kind, Args        string // what to do: the store reads neither
	Priority          int    // smaller ones first
	Attempt           int    // how often it was claimed: the fence, by which nothing is decided
	Deaths, Errors    int    // how many claims ended with their process or a hot path, and how many with an error
	Due               time.Time
	Created           time.Time
	Error             string // the last one
	State             string
	Cause             string // the traceparent of the span that added it; empty: that was not recorded
}

const jobColumns = `id, queue, tenant, kind, args, priority, attempt, deaths, errors, due_at, created_at, error, state, traceparent`

// AddJobs adds jobs: all of them, or none. One whose id is there already stays as it is.
func (s *Store) AddJobs(ctx context.Context, jobs ...Job) error {
	return s.write(ctx, func(tx *sql.Tx) error { return s.addJobs(ctx, tx, jobs...) })
}

// addJobs is AddJobs in a transaction of whoever adds jobs with something else.
func (s *Store) addJobs(ctx context.Context, tx *sql.Tx, jobs ...Job) error {
	insert, err := tx.PrepareContext(ctx, `INSERT INTO job (id, queue, tenant, kind, args, priority, deaths, traceparent, state, created_at, due_at)
		SELECT $1, $2, $3, $4, $5, $6, $8, $9, CASE WHEN $7 > clock.now THEN 'later' ELSE 'ready' END, clock.now,
			CASE WHEN $7 > clock.now THEN $7 ELSE clock.now END
		FROM (SELECT `+s.dialect.now+` AS now) AS clock WHERE true ON CONFLICT (id) DO NOTHING`)
	if err != nil {
		return err
	}
	defer insert.Close()
	cause := tracing.From(ctx).Traceparent()
	var queues []string
	for _, job := range jobs {
		if job.ID == "" || job.Queue == "" {
			return fmt.Errorf("a job of kind %q has no id or no queue", job.Kind)
		}
		_, err := insert.ExecContext(ctx, job.ID, job.Queue, job.Tenant, job.Kind, job.Args, job.Priority, milliseconds(job.Due).Int64, job.Deaths, cause)
		if err != nil {
			return err
		}
		if !slices.Contains(queues, job.Queue) {
			queues = append(queues, job.Queue)
		}
	}
	return s.notifyJobs(ctx, tx, queues)
}

// Busy are those of which no further job is claimed: tenants, and what jobs name as their args.
type Busy struct{ Tenants, Args []string }

// except is a condition of jobs that are not of those, and its arguments, of which the first has a number.
func (b Busy) except(first int) (condition string, args []any) {
	for column, names := range map[string][]string{"tenant": b.Tenants, "args": b.Args} {
		for i, name := range names {
			condition += []string{` AND ` + column + ` NOT IN (`, `, `}[min(i, 1)] + `$` + strconv.Itoa(first+len(args))
			args = append(args, name)
		}
		if len(names) > 0 {
			condition += `)`
		}
	}
	return condition, args
}

// ClaimJobs leases at most so many ready jobs of a queue: those of the first priority, and of each tenant in turn, its
// oldest. Turns go on from claim to claim, so that no tenant waits for the backlog of another.
func (s *Store) ClaimJobs(ctx context.Context, queue, owner string, most int, lease time.Duration) ([]Job, error) {
	return s.ClaimJobsExcept(ctx, queue, owner, most, lease, Busy{})
}

// ClaimJobsExcept is ClaimJobs that leaves the jobs of some.
func (s *Store) ClaimJobsExcept(ctx context.Context, queue, owner string, most int, lease time.Duration, busy Busy) ([]Job, error) {
	if lease <= 0 || lease > maxLease {
		return nil, fmt.Errorf("a lease of %v is not within %v", lease, maxLease)
	}
	var some bool // a look first: it takes no lock, and is all that an idle queue costs
	except, names := busy.except(2)
	err := s.r.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM job WHERE queue = $1 AND state = 'ready'`+except+`)`, append([]any{queue}, names...)...).Scan(&some)
	if err != nil || !some {
		return nil, s.explain(err)
	}
	last := s.turns.of(queue)
	var jobs []Job
	err = s.write(ctx, func(tx *sql.Tx) error {
		for len(jobs) < most {
			job, err := s.claimJob(ctx, tx, queue, owner, last, lease, busy)
			if errors.Is(err, sql.ErrNoRows) {
				return nil
			}
			if err != nil {
				return err
			}
			jobs, last = append(jobs, job), job.Tenant
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.turns.set(queue, last)
	return jobs, nil
}

// claimJob leases the first job of the tenant after the last one, or else the first of all.
func (s *Store) claimJob(ctx context.Context, tx *sql.Tx, queue, owner, last string, lease time.Duration, busy Busy) (Job, error) {
	except, names := busy.except(5)
	args := append([]any{queue, last, owner, lease.Milliseconds()}, names...)
	return scanJob(tx.QueryRowContext(ctx, s.claimStatement(except), args...))
}

func (s *Store) claimStatement(except string) string {
	ready := ` FROM job WHERE queue = $1 AND state = 'ready'` + except
	next := `SELECT id` + ready + ` AND tenant > $2 AND priority = (SELECT priority` + ready + ` ORDER BY priority LIMIT 1)
		ORDER BY tenant, id LIMIT 1` + s.dialect.skipLocked
	first := `SELECT id` + ready + ` ORDER BY priority, tenant, id LIMIT 1` + s.dialect.skipLocked
	return `UPDATE job SET state = 'leased', owner = $3, attempt = attempt + 1, due_at = ` + s.dialect.now + ` + $4
		WHERE id = coalesce((` + next + `), (` + first + `)) RETURNING ` + jobColumns
}

// RenewJobs gives leases their full time again, and returns the ids of those that were lost.
func (s *Store) RenewJobs(ctx context.Context, jobs []Job, lease time.Duration) (lost []string, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		for _, job := range jobs {
			err := changeHeld(ctx, tx, job, `due_at = `+s.dialect.now+` + $3`, lease.Milliseconds())
			if errors.Is(err, ErrLost) {
				lost = append(lost, job.ID)
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return lost, nil
}

// FinishJob ends a job. ErrLost: it is no longer the caller's.
func (s *Store) FinishJob(ctx context.Context, job Job) error {
	return s.write(ctx, func(tx *sql.Tx) error { return s.finishJob(ctx, tx, job) })
}

// finishJob is FinishJob in the transaction that writes what the job was for: both last, or neither.
func (s *Store) finishJob(ctx context.Context, tx *sql.Tx, job Job) error {
	return changeHeld(ctx, tx, job, `state = 'done', owner = '', ended_at = `+s.dialect.now)
}

// RetryJob puts a job off, with the errors and deaths that its worker has counted by now.
func (s *Store) RetryJob(ctx context.Context, job Job, after time.Duration, cause string) error {
	return s.write(ctx, func(tx *sql.Tx) error { return s.retryJob(ctx, tx, job, after, cause) })
}

// retryJob is RetryJob in a transaction that writes why.
func (s *Store) retryJob(ctx context.Context, tx *sql.Tx, job Job, after time.Duration, cause string) error {
	return changeHeld(ctx, tx, job, `state = 'later', owner = '', due_at = `+s.dialect.now+` + $3, error = $4, errors = $5, deaths = $6`,
		after.Milliseconds(), jobError(cause), job.Errors, job.Deaths)
}

// SetDeaths writes how many deaths a job has had, as its worker knows better.
func (s *Store) SetDeaths(ctx context.Context, job Job, deaths int) error {
	return s.write(ctx, func(tx *sql.Tx) error { return changeHeld(ctx, tx, job, `deaths = $3`, deaths) })
}

// BuryJob gives a job up: nobody claims it until it is replayed.
func (s *Store) BuryJob(ctx context.Context, job Job, cause string) error {
	return s.write(ctx, func(tx *sql.Tx) error { return s.buryJob(ctx, tx, job, cause) })
}

// buryJob is BuryJob in a transaction that writes why.
func (s *Store) buryJob(ctx context.Context, tx *sql.Tx, job Job, cause string) error {
	return changeHeld(ctx, tx, job, `state = 'dead', owner = '', ended_at = `+s.dialect.now+`, error = $3, errors = errors + 1`, jobError(cause))
}

// ReleaseJobs gives jobs back that were not worked on to an end, and counts nothing against them. Those that are no longer
// the caller's are left as they are.
func (s *Store) ReleaseJobs(ctx context.Context, jobs []Job) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		for _, job := range jobs {
			if err := changeHeld(ctx, tx, job, `state = 'ready', owner = ''`); err != nil && !errors.Is(err, ErrLost) {
				return err
			}
		}
		return nil
	})
}

// changeHeld changes a job that its caller has, and is the only one that does. Arguments begin with $3.
func changeHeld(ctx context.Context, tx *sql.Tx, job Job, changes string, args ...any) error {
	done, err := tx.ExecContext(ctx, `UPDATE job SET `+changes+` WHERE id = $1 AND attempt = $2 AND state = 'leased'`, // the fence
		append([]any{job.ID, job.Attempt}, args...)...)
	if err != nil {
		return err
	}
	rows, err := done.RowsAffected()
	if err == nil && rows != 1 {
		err = ErrLost
	}
	return err
}

// jobError is an error's text as both databases take it.
func jobError(text string) string {
	text = strings.ReplaceAll(text, "\x00", "")
	return strings.ToValidUTF8(text[:min(len(text), maxJobError)], "")
}

func scanJob(row scanner) (job Job, err error) {
	var due, created int64
	err = row.Scan(&job.ID, &job.Queue, &job.Tenant, &job.Kind, &job.Args, &job.Priority, &job.Attempt, &job.Deaths, &job.Errors,
		&due, &created, &job.Error, &job.State, &job.Cause)
	job.Due, job.Created = time.UnixMilli(due).UTC(), time.UnixMilli(created).UTC()
	return job, err
}
