package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// AsyncQueue is the queue of the API's jobs. The id of a job is that of the async job that it runs.
const AsyncQueue = "jobs"

const asyncKind = "request"

// States of an async job. Of one that is open the queue's job says which of the first two it is.
const (
	AsyncQueued     = "queued" // also between two attempts
	AsyncInProgress = "in_progress"
	AsyncCompleted  = "completed"
	AsyncFailed     = "failed"
	AsyncCancelled  = "cancelled"
	AsyncExpired    = "expired" // it was not run in its time
	asyncOpen       = "open"
)

// AsyncJob is what is stored of a tenant's job: one request that is run later.
type AsyncJob struct {
	ID, Tenant  string
	Key, Scopes string // of whoever created it
	Plan        string // that its tenant had then
	Endpoint    string
	Model       string // empty: its request names none
	Metadata    string // as it was sent, in JSON; empty: none
	Body        string // the hash of the request's body; empty: it need not be run any more
	BodyBytes   int64  // which bound its tokens
	// Thresholds by which its Inputs, that many texts, are judged, as the store keeps them; empty: they are not. Verdict is
	// what came of all of them.
	Thresholds, Verdict string
	Inputs              int64
	Alone               int // the deaths of the queue's job when it was last begun alone; 0: it never was
	State               string
	Result              AsyncResult
	Created             time.Time
	Expires             time.Time // when it is given up, if nobody has begun it
	Ended               time.Time // zero until then
	Forgotten           time.Time // from when on it is not found; zero while it is open
}

// AsyncResult is what came of an async job: a reply, or an error.
type AsyncResult struct {
	State  string // that it ends in
	Status int    // of the reply; 0: there is none
	Body   string // the hash of the reply's body
	Bytes  int64
	// ErrorCode and Error say why there is no reply.
	ErrorCode, Error string
	Tokens           BatchTokens
	// Dead is why the queue's job is to be looked at by somebody, who may replay it; empty: it is not.
	Dead string
	// Judged is what the texts of a job with thresholds came to; nil: nothing, or it was read from the store.
	Judged *Judged
}

const asyncColumns = `a.id, a.tenant, a.key_id, a.scopes, a.plan, a.endpoint, a.model, a.metadata, a.body, a.body_bytes,
	a.thresholds, a.inputs, a.verdict, a.alone,
	CASE WHEN a.state <> 'open' THEN a.state WHEN j.state = 'leased' THEN 'in_progress' ELSE 'queued' END,
	a.status, a.result, a.result_bytes, a.error_code, a.error, a.input_tokens, a.cached_tokens, a.output_tokens,
	a.created_at, a.expires_at, a.ended_at, a.forget_at FROM async_job AS a LEFT JOIN job AS j ON j.id = a.id`

// AddAsyncJob adds a job of which the body's blob is there, or returns ErrBatchLimit; ErrAnswered where the answer's key was
// used before.
func (s *Store) AddAsyncJob(ctx context.Context, tenant string, job AsyncJob, most BatchLimits, answer *Answer) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		if err := s.keepAnswer(ctx, tx, tenant, answer); err != nil {
			return err
		}
		used, err := lockEnqueued(ctx, tx, tenant)
		if err != nil {
			return err
		}
		if (most.Jobs > 0 && used.Jobs >= most.Jobs) || (most.Enqueued > 0 && used.Enqueued+job.BodyBytes > most.Enqueued) ||
			(job.Inputs > 0 && (most.Reviews > 0 && used.Reviews+job.Inputs > most.Reviews || most.ReviewBytes > 0 && used.ReviewBytes+job.BodyBytes > most.ReviewBytes)) {
			return ErrBatchLimit{used, most}
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO async_job (id, tenant, key_id, scopes, plan, endpoint, model, metadata, body, body_bytes, thresholds, inputs, state,
			created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'open', $13, $14)`,
			job.ID, tenant, job.Key, job.Scopes, job.Plan, job.Endpoint, job.Model, job.Metadata, job.Body, job.BodyBytes, job.Thresholds, job.Inputs,
			job.Created.UnixMilli(), job.Expires.UnixMilli())
		if err != nil {
			return err
		}
		if err := countAsync(ctx, tx, tenant, asyncCount{1, job.BodyBytes, job.Inputs, reviewed(job.Inputs, job.BodyBytes)}); err != nil {
			return err
		}
		return s.addJobs(ctx, tx, Job{ID: job.ID, Queue: AsyncQueue, Tenant: tenant, Kind: asyncKind})
	})
}

// lockEnqueued returns what a tenant's batches and jobs that have not ended come to. Others of the tenant that add some wait.
func lockEnqueued(ctx context.Context, tx *sql.Tx, tenant string) (used BatchLimits, err error) {
	var jobBytes int64
	err = tx.QueryRowContext(ctx, `INSERT INTO batch_limit (tenant, created) VALUES ($1, 1)
		ON CONFLICT (tenant) DO UPDATE SET created = batch_limit.created + 1 RETURNING jobs, job_bytes, reviews, review_bytes`, tenant).
		Scan(&used.Jobs, &jobBytes, &used.Reviews, &used.ReviewBytes)
	if err != nil {
		return BatchLimits{}, err
	}
	err = tx.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(enqueued), 0) FROM batch WHERE tenant = $1 AND ended_at IS NULL`, tenant).
		Scan(&used.Batches, &used.Enqueued)
	used.Enqueued += jobBytes
	return used, err
}

// asyncCount is what a tenant's open jobs come to, and how many texts wait for people, or may come to, of how many bytes.
type asyncCount struct{ jobs, bytes, reviews, reviewBytes int64 }

// countAsync adds to that. It comes last of what a transaction locks.
func countAsync(ctx context.Context, tx *sql.Tx, tenant string, more asyncCount) error {
	return one(tx.ExecContext(ctx, `UPDATE batch_limit SET jobs = jobs + $2, job_bytes = job_bytes + $3, reviews = reviews + $4,
		review_bytes = review_bytes + $5 WHERE tenant = $1`, tenant, more.jobs, more.bytes, more.reviews, more.reviewBytes))
}

// reviewed is how many of a job's bytes people may be asked about.
func reviewed(inputs, bytes int64) int64 {
	if inputs == 0 {
		return 0
	}
	return bytes
}

// FindAsyncJob returns a tenant's job, or ErrNotFound, as for one that is to be forgotten.
func (s *Store) FindAsyncJob(ctx context.Context, tenant, id string, now time.Time) (AsyncJob, error) {
	job, err := findAsync(ctx, s.r, tenant, id, now)
	return job, s.explain(err)
}

func findAsync(ctx context.Context, q querier, tenant, id string, now time.Time) (AsyncJob, error) {
	job, err := scanAsync(q.QueryRowContext(ctx, `SELECT `+asyncColumns+`
		WHERE a.tenant = $1 AND a.id = $2 AND (a.forget_at IS NULL OR a.forget_at > $3)`, tenant, id, now.UnixMilli()))
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("there is no async job %.100q: %w", id, ErrNotFound)
	}
	return job, err
}

// AsyncJobsPage returns at most so many of a tenant's jobs, newest first: those after one, or from the newest where that is
// empty.
func (s *Store) AsyncJobsPage(ctx context.Context, tenant, after string, most int, now time.Time) ([]AsyncJob, error) {
	return query(ctx, s, scanAsync, `SELECT `+asyncColumns+` WHERE a.tenant = $1 AND (a.id < $2 OR $2 = '')
		AND (a.forget_at IS NULL OR a.forget_at > $3) ORDER BY a.id DESC LIMIT $4`, tenant, after, now.UnixMilli(), most)
}

// BeginAlone writes down that a tenant's job is begun while its gateway runs no other: if it dies now, it is for that job.
func (s *Store) BeginAlone(ctx context.Context, job Job, tenant string) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		return one(tx.ExecContext(ctx, `UPDATE async_job SET alone = $3 WHERE tenant = $1 AND id = $2 AND ended_at IS NULL`, tenant, job.ID, job.Deaths))
	})
}

// FinishAsyncJob writes what came of a job, until when that is known, its charge, and the texts that people are asked about, and has
// its tenant's webhooks told, with the end of the queue's job: all of it, or nothing. What is given up is not charged. It returns ErrLost where the latter is no longer the caller's, or the job has ended.
func (s *Store) FinishAsyncJob(ctx context.Context, job Job, tenant string, result AsyncResult, now, forget time.Time) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		key, err := s.endAsync(ctx, tx, tenant, job.ID, result, now, forget)
		if errors.Is(err, ErrNotFound) {
			return ErrLost
		}
		if err != nil {
			return err
		}
		if result.Dead != "" {
			return s.buryJob(ctx, tx, job, result.Dead)
		}
		charge := Charge{ID: job.ID, Tenant: tenant, Key: key, Class: batchClass, Tokens: result.Tokens.Input + result.Tokens.Output}
		if err := s.addCharge(ctx, tx, charge); err != nil {
			return err
		}
		return s.finishJob(ctx, tx, job)
	})
}

// CancelAsyncJob ends a tenant's job, also one that runs: what becomes of that is refused. It returns the job. One that was
// cancelled before stays as it is; ErrEnded where it has ended in another way.
func (s *Store) CancelAsyncJob(ctx context.Context, tenant, id string, now, forget time.Time) (job AsyncJob, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		_, ending := s.endAsync(ctx, tx, tenant, id, AsyncResult{State: AsyncCancelled}, now, forget)
		if ending == nil {
			_, ending = tx.ExecContext(ctx, `UPDATE job SET state = 'done', owner = '', ended_at = `+s.dialect.now+` WHERE id = $1 AND state <> 'done'`, id)
		}
		if ending != nil && !errors.Is(ending, ErrNotFound) {
			return ending
		}
		if job, err = findAsync(ctx, tx, tenant, id, now); err != nil {
			return err
		}
		if job.State != AsyncCancelled {
			return ErrEnded
		}
		return nil
	})
	return job, err
}

// errRuns rolls an end back that is not for what runs.
var errRuns = errors.New("it runs")

// ExpireAsyncJobs ends at most so many jobs that were not run in their time. One that runs at present comes to its end.
func (s *Store) ExpireAsyncJobs(ctx context.Context, now time.Time, forgetAt func(*AsyncJob) time.Time, most int) (expired []string, err error) {
	due, err := query(ctx, s, scanAsync, `SELECT `+asyncColumns+` WHERE a.ended_at IS NULL AND a.expires_at <= $1 AND coalesce(j.state, '') <> 'leased'
		ORDER BY a.expires_at LIMIT $2`, now.UnixMilli(), most)
	for _, job := range due {
		err := s.write(ctx, func(tx *sql.Tx) error {
			if _, err := s.endAsync(ctx, tx, job.Tenant, job.ID, AsyncResult{State: AsyncExpired}, now, forgetAt(&job)); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, `UPDATE job SET state = 'done', ended_at = `+s.dialect.now+` WHERE id = $1 AND state IN ('ready', 'later', 'dead')`, job.ID)
			if err != nil {
				return err
			}
			var runs bool
			if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM job WHERE id = $1 AND state = 'leased')`, job.ID).Scan(&runs); err != nil || !runs {
				return err
			}
			return errRuns
		})
		switch {
		case err == nil:
			expired = append(expired, job.ID)
		case !errors.Is(err, errRuns) && !errors.Is(err, ErrNotFound): // another gateway may have done so
			return expired, err
		}
	}
	return expired, err
}

// endAsync ends a job, but not the queue's job, and returns the key that it is charged to. ErrNotFound: there is no such job, or
// it has ended. It locks the job, which whoever ends it locks first.
func (s *Store) endAsync(ctx context.Context, tx *sql.Tx, tenant, id string, r AsyncResult, now, forget time.Time) (key string, err error) {
	var bytes, inputs int64
	var thresholds, metadata string
	err = tx.QueryRowContext(ctx, `UPDATE async_job SET state = $3, status = $4, result = $5, result_bytes = $6, error_code = $7, error = $8,
		input_tokens = $9, cached_tokens = $10, output_tokens = $11, ended_at = $12, forget_at = $13, verdict = $15, body = CASE WHEN $14 = 1 THEN body ELSE '' END
		WHERE tenant = $1 AND id = $2 AND ended_at IS NULL RETURNING body_bytes, key_id, inputs, thresholds, metadata`,
		tenant, id, r.State, r.Status, r.Body, r.Bytes, r.ErrorCode, jobError(r.Error), r.Tokens.Input, r.Tokens.Cached, r.Tokens.Output,
		now.UnixMilli(), forget.UnixMilli(), asNumber(r.Dead != ""), r.Judged.verdict()).Scan(&bytes, &key, &inputs, &thresholds, &metadata)
	if errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("there is no open job %.100q: %w", id, ErrNotFound)
	}
	if err != nil {
		return "", err
	}
	if err := countAsync(ctx, tx, tenant, asyncCount{-1, -bytes, r.Judged.reviews() - inputs, r.Judged.reviewBytes() - reviewed(inputs, bytes)}); err != nil {
		return "", err
	}
	if err := s.addEvent(ctx, tx, tenant, "job."+r.State, id, "", now); err != nil {
		return "", err
	}
	if thresholds != "" {
		if err := s.endModeration(ctx, tx, tenant, id, thresholds, metadata, r, now); err != nil {
			return "", err
		}
	}
	return key, s.notify(ctx, tx, endedChannel, id)
}

// reviveAsync opens a job again that was given up, since the queue's job was replayed. It has as long as it had.
func (s *Store) reviveAsync(ctx context.Context, tx *sql.Tx, id string) error {
	var tenant string
	var bytes, inputs int64
	err := tx.QueryRowContext(ctx, `UPDATE async_job SET state = 'open', alone = 0, error_code = '', error = '', status = 0, result = '', ended_at = NULL, forget_at = NULL,
		expires_at = `+s.dialect.now+` + expires_at - created_at WHERE id = $1 AND ended_at IS NOT NULL AND body <> '' RETURNING tenant, body_bytes, inputs`, id).
		Scan(&tenant, &bytes, &inputs)
	if errors.Is(err, sql.ErrNoRows) { // the job is another queue's, or forgotten
		return nil
	}
	if err != nil {
		return err
	}
	return countAsync(ctx, tx, tenant, asyncCount{1, bytes, inputs, reviewed(inputs, bytes)})
}

// ForgetAsyncJobs removes at most so many jobs whose time is over.
func (s *Store) ForgetAsyncJobs(ctx context.Context, now time.Time, most int) (int, error) {
	return s.remove(ctx, `DELETE FROM async_job WHERE id IN (
		SELECT id FROM async_job WHERE forget_at IS NOT NULL AND forget_at <= $1 ORDER BY forget_at LIMIT $2`+s.dialect.skipLocked+`)`, now.UnixMilli(), most)
}

func scanAsync(row scanner) (job AsyncJob, err error) {
	var created, expires int64
	var ended, forget sql.NullInt64
	r := &job.Result
	err = row.Scan(&job.ID, &job.Tenant, &job.Key, &job.Scopes, &job.Plan, &job.Endpoint, &job.Model, &job.Metadata, &job.Body, &job.BodyBytes,
		&job.Thresholds, &job.Inputs, &job.Verdict, &job.Alone, &job.State,
		&r.Status, &r.Body, &r.Bytes, &r.ErrorCode, &r.Error, &r.Tokens.Input, &r.Tokens.Cached, &r.Tokens.Output, &created, &expires, &ended, &forget)
	job.Created, job.Expires = time.UnixMilli(created).UTC(), time.UnixMilli(expires).UTC()
	job.Ended, job.Forgotten = timeOf(ended), timeOf(forget)
	r.State = job.State
	return job, err
}
