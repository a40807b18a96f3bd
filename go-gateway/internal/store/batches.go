package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// ErrEnded means that a batch has ended, or is about to, in another way.
var ErrEnded = errors.New("the batch has ended")

// States of a batch.
const (
	BatchInProgress = "in_progress"
	BatchFinalizing = "finalizing" // its output is put together
	BatchCompleted  = "completed"
	BatchFailed     = "failed"
	BatchExpired    = "expired"
	BatchCancelling = "cancelling" // what runs is waited for, and the output is put together
	BatchCancelled  = "cancelled"
)

// Batch is what is stored of a tenant's batch.
type Batch struct {
	ID, Tenant   string
	Key, Scopes  string // of whoever created it
	Plan         string // that its tenant had then
	File         string // the id of its input
	SHA256       string // of the input's content, in hexadecimal
	Bytes        int64  // of it
	Endpoint     string
	Model        string // empty: lines name several
	Metadata     string // as it was sent, in JSON; empty: none
	State        string
	Lines        int64
	Pending      int64 // segments
	Enqueued     int64 // bytes of lines that have no result yet: at least as many as tokens of theirs
	Done, Failed int64 // lines
	Tokens       BatchTokens
	// OutputLifetime is for how long the files are kept that come out, as far as the tenant said; 0: it did not.
	OutputLifetime time.Duration
	Output         string // ids of files; empty: there is none
	Errors         string
	Error          string // why it failed, for its tenant
	Created        time.Time
	Expires        time.Time
	Expired        time.Time // these are zero until it happens
	Cancelling     time.Time
	Finalizing     time.Time
	Ended          time.Time
	Forgotten      time.Time // from when on it is removed
}

// BatchTokens are what lines used.
type BatchTokens struct{ Input, Cached, Output int64 }

// BatchLimits are what a tenant's batches and jobs that have not ended may come to. 0 is no bound.
type BatchLimits struct {
	Batches, Jobs int64
	Enqueued      int64 // bytes of lines and of jobs' bodies together
	Reviews       int64 // texts that wait for people, or may come to
	ReviewBytes   int64 // of these
}

// ErrBatchLimit means that a tenant's batches and jobs would come to more than they may. Its text is for logs.
type ErrBatchLimit struct{ Used, Most BatchLimits }

func (e ErrBatchLimit) Error() string {
	return fmt.Sprintf("the tenant has %+v in batches and jobs, and may have %+v", e.Used, e.Most)
}

const batchColumns = `id, tenant, key_id, scopes, plan, file, sha256, bytes, endpoint, model, metadata, state, lines, pending, enqueued, done, failed,
	input_tokens, cached_tokens, output_tokens, output_lifetime, output, errors, error,
	created_at, expires_at, expired_at, cancelling_at, finalizing_at, ended_at, forget_at`

// AddBatch adds a batch with its segments and their jobs, or returns ErrBatchLimit; ErrNotFound where its file is gone, and
// ErrAnswered where the answer's key was used before.
func (s *Store) AddBatch(ctx context.Context, tenant string, batch Batch, segments []Segment, most BatchLimits, answer *Answer) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		if err := s.keepAnswer(ctx, tx, tenant, answer); err != nil {
			return err
		}
		used, err := lockEnqueued(ctx, tx, tenant) // others of the tenant wait here
		if err != nil {
			return err
		}
		// Who deletes the file waits until the batch names its content too: no sweep comes in between.
		if err := one(tx.ExecContext(ctx, `UPDATE file SET name = name WHERE tenant = $1 AND id = $2`, tenant, batch.File)); err != nil {
			return noFile(batch.File, err)
		}
		if (most.Batches > 0 && used.Batches >= most.Batches) || (most.Enqueued > 0 && used.Enqueued+batch.Enqueued > most.Enqueued) {
			return ErrBatchLimit{used, most}
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO batch (id, tenant, key_id, scopes, plan, file, sha256, bytes, endpoint, model, metadata, state,
			lines, pending, enqueued, output_lifetime, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)`,
			batch.ID, tenant, batch.Key, batch.Scopes, batch.Plan, batch.File, batch.SHA256, batch.Bytes, batch.Endpoint, batch.Model, batch.Metadata,
			BatchInProgress, batch.Lines, len(segments), batch.Enqueued, batch.OutputLifetime.Milliseconds(), batch.Created.UnixMilli(), batch.Expires.UnixMilli())
		if err != nil {
			return err
		}
		return s.addSegments(ctx, tx, tenant, batch.ID, segments...)
	})
}

// FindBatch returns a tenant's batch, or ErrNotFound.
func (s *Store) FindBatch(ctx context.Context, tenant, id string) (Batch, error) {
	batch, err := findBatch(ctx, s.r, tenant, id)
	return batch, s.explain(err)
}

func findBatch(ctx context.Context, q querier, tenant, id string) (Batch, error) {
	batch, err := scanBatch(q.QueryRowContext(ctx, `SELECT `+batchColumns+` FROM batch WHERE tenant = $1 AND id = $2`, tenant, id))
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("there is no batch %.100q: %w", id, ErrNotFound)
	}
	return batch, err
}

// BatchesPage returns at most so many of a tenant's batches, newest first: those after one, or from the newest where that is
// empty.
func (s *Store) BatchesPage(ctx context.Context, tenant, after string, most int) ([]Batch, error) {
	return query(ctx, s, scanBatch, `SELECT `+batchColumns+` FROM batch WHERE tenant = $1 AND (id < $2 OR $2 = '') ORDER BY id DESC LIMIT $3`,
		tenant, after, most)
}

// CancelBatch has no further segment of a tenant's batch run, and returns the batch. Those that run come to their end. One
// that was cancelled before stays as it is; ErrEnded where it ends, or has ended, in another way.
func (s *Store) CancelBatch(ctx context.Context, tenant, id string, now time.Time) (batch Batch, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `UPDATE batch SET state = 'cancelling', cancelling_at = $3, version = version + 1
			WHERE tenant = $1 AND id = $2 AND state = 'in_progress'`, tenant, id, now.UnixMilli())
		if err != nil {
			return err
		}
		changed, err := done.RowsAffected()
		if err != nil {
			return err
		}
		if changed == 1 {
			if err := s.skipSegments(ctx, tx, tenant, id, now); err != nil {
				return err
			}
		}
		if batch, err = findBatch(ctx, tx, tenant, id); err != nil || changed == 1 {
			return err
		}
		if batch.State != BatchCancelling && batch.State != BatchCancelled {
			return ErrEnded
		}
		return nil
	})
	return batch, err
}

// ExpireBatches has no further segments run of at most so many batches whose time is over.
func (s *Store) ExpireBatches(ctx context.Context, now time.Time, most int) (expired int, err error) {
	due, err := query(ctx, s, scanBatch, `SELECT `+batchColumns+` FROM batch
		WHERE ended_at IS NULL AND state = 'in_progress' AND expires_at <= $1 ORDER BY expires_at LIMIT $2`, now.UnixMilli(), most)
	for _, batch := range due {
		err := s.write(ctx, func(tx *sql.Tx) error {
			err := one(tx.ExecContext(ctx, `UPDATE batch SET state = 'finalizing', finalizing_at = $3, expired_at = $3, version = version + 1
				WHERE tenant = $1 AND id = $2 AND state = 'in_progress'`, batch.Tenant, batch.ID, now.UnixMilli()))
			return cmp.Or(err, s.skipSegments(ctx, tx, batch.Tenant, batch.ID, now))
		})
		if err != nil && !errors.Is(err, ErrNotFound) { // another gateway may have done so
			return expired, err
		}
		expired++
	}
	return expired, err
}

// FinishBatch ends a batch, of which the segments' results are in files by then, and the job that put them together, and has
// its tenant's webhooks told: all of it, or nothing. Nil files are none. It returns ErrLost where the job is no longer the caller's.
func (s *Store) FinishBatch(ctx context.Context, job Job, batch Batch, output, errs *File, now, forget time.Time) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		for _, file := range []*File{output, errs} {
			if file == nil {
				continue
			}
			if err := addFile(ctx, tx, batch.Tenant, *file, FileUsage{}); err != nil { // it was paid for
				return err
			}
		}
		err := one(tx.ExecContext(ctx, `UPDATE batch SET state = $3, output = $4, errors = $5, error = $6, ended_at = $7, forget_at = $8, enqueued = 0,
			version = version + 1 WHERE tenant = $1 AND id = $2 AND ended_at IS NULL`,
			batch.Tenant, batch.ID, batch.State, idOf(output), idOf(errs), batch.Error, now.UnixMilli(), forget.UnixMilli()))
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM segment WHERE batch = $1`, batch.ID); err != nil {
			return err
		}
		if err := s.addEvent(ctx, tx, batch.Tenant, "batch."+batch.State, batch.ID, "", now); err != nil {
			return err
		}
		return s.finishJob(ctx, tx, job)
	})
}

func idOf(file *File) string {
	if file == nil {
		return ""
	}
	return file.ID
}

// PruneBatches removes at most so many batches whose time is over. Their files stay.
func (s *Store) PruneBatches(ctx context.Context, now time.Time, most int) (int, error) {
	return s.remove(ctx, `DELETE FROM batch WHERE id IN (SELECT id FROM batch WHERE forget_at <= $1 LIMIT $2)`, now.UnixMilli(), most)
}

func scanBatch(row scanner) (b Batch, err error) {
	var created, expires int64
	var expired, cancelling, finalizing, ended, forget sql.NullInt64
	var lifetime int64
	err = row.Scan(&b.ID, &b.Tenant, &b.Key, &b.Scopes, &b.Plan, &b.File, &b.SHA256, &b.Bytes, &b.Endpoint, &b.Model, &b.Metadata, &b.State,
		&b.Lines, &b.Pending, &b.Enqueued, &b.Done, &b.Failed, &b.Tokens.Input, &b.Tokens.Cached, &b.Tokens.Output,
		&lifetime, &b.Output, &b.Errors, &b.Error, &created, &expires, &expired, &cancelling, &finalizing, &ended, &forget)
	b.OutputLifetime, b.Forgotten = time.Duration(lifetime)*time.Millisecond, timeOf(forget)
	b.Created, b.Expires = time.UnixMilli(created).UTC(), time.UnixMilli(expires).UTC()
	b.Expired, b.Cancelling, b.Finalizing, b.Ended = timeOf(expired), timeOf(cancelling), timeOf(finalizing), timeOf(ended)
	return b, err
}
