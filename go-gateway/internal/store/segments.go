package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The queue of batches' jobs, and its kinds.
const (
	BatchQueue  = "batch"
	SegmentJob  = "segment"  // runs a segment; its args are the batch and the segment's number, with a space between
	FinalizeJob = "finalize" // puts the results together; its args are the batch
)

// States of a segment.
const (
	SegmentPending = "pending"
	SegmentDone    = "done"
	SegmentSkipped = "skipped" // the batch was cancelled or has expired before
)

// batchClass is the class of a batch's requests.
const batchClass = "batch"

// Segment is a part of a batch: lines that are run together.
type Segment struct {
	N, Lines   int64 // the index of the first line, and how many there are
	At, Length int64 // their bytes in the input
	Duplicates []int64
	State      string
	Result     SegmentResult
	Attempt    int // of the job that has written the result
	Deaths     int // that its job begins with; not kept with the segment
}

// SegmentResult is what came of a segment. The hashes are those of blobs; empty: there is none.
type SegmentResult struct {
	Output, Errors           string
	OutputBytes, ErrorsBytes int64
	Failed                   int64 // lines
	Skipped                  int64 // lines that were not run, since the batch was cancelled or had expired; known of one that is finished
	Tokens                   BatchTokens
}

const segmentColumns = `n, lines, at, length, duplicates, state, output, output_bytes, errors, errors_bytes, failed, attempt`

// FindSegment returns a segment of a tenant's batch, or ErrNotFound.
func (s *Store) FindSegment(ctx context.Context, tenant, batch string, n int64) (Segment, error) {
	segment, err := scanSegment(s.r.QueryRowContext(ctx, `SELECT `+segmentColumns+` FROM segment
		WHERE batch = (SELECT id FROM batch WHERE tenant = $1 AND id = $2) AND n = $3`, tenant, batch, n))
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("there is no segment %d of batch %q: %w", n, batch, ErrNotFound)
	}
	return segment, s.explain(err)
}

// SegmentsPage returns at most so many segments of a tenant's batch, in order: those from a line on.
func (s *Store) SegmentsPage(ctx context.Context, tenant, batch string, from int64, most int) ([]Segment, error) {
	return query(ctx, s, scanSegment, `SELECT `+segmentColumns+` FROM segment
		WHERE batch = (SELECT id FROM batch WHERE tenant = $1 AND id = $2) AND n >= $3 ORDER BY n LIMIT $4`, tenant, batch, from, most)
}

// SegmentCharge is the id of the charge for a segment.
func SegmentCharge(batch string, n int64) string { return fmt.Sprintf("%s/%d", batch, n) }

// FinishSegment writes what came of a segment and its charge, adds it to its batch, and ends its job: all of it, or nothing. The segment
// may have shrunk; rest are then its other lines, which wait again. Without a result it is rest that takes its place. When
// none of the batch's segments waits any more, the job is added that puts the results together.
//
// It returns ErrLost where the job is no longer the caller's.
func (s *Store) FinishSegment(ctx context.Context, job Job, tenant, batch string, segment Segment, hasResult bool, rest []Segment, now time.Time) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		r := segment.Result
		done, pending, enqueued := segment.Lines-r.Failed-r.Skipped, len(rest)-1, segment.Length
		if !hasResult {
			done, enqueued = 0, 0
		}
		// The batch first, as whoever cancels it does: so nobody waits for the other.
		var state, key string
		err := tx.QueryRowContext(ctx, `UPDATE batch SET done = done + $3, failed = failed + $4, input_tokens = input_tokens + $5,
			cached_tokens = cached_tokens + $6, output_tokens = output_tokens + $7, pending = pending + $8, enqueued = enqueued - $9,
			version = version + 1 WHERE tenant = $1 AND id = $2 AND ended_at IS NULL RETURNING pending, state, key_id`,
			tenant, batch, done, r.Failed, r.Tokens.Input, r.Tokens.Cached, r.Tokens.Output, pending, enqueued).Scan(&pending, &state, &key)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrLost
		}
		if err != nil {
			return err
		}
		if err := s.finishJob(ctx, tx, job); err != nil { // the fence
			return err
		}
		if err := writeSegment(ctx, tx, batch, segment, hasResult, job.Attempt); err != nil {
			return err
		}
		charge := Charge{ID: SegmentCharge(batch, segment.N), Tenant: tenant, Key: key, Class: batchClass, Tokens: r.Tokens.Input + r.Tokens.Output}
		if err := s.addCharge(ctx, tx, charge); err != nil {
			return err
		}
		if err := s.addSegments(ctx, tx, tenant, batch, rest...); err != nil {
			return err
		}
		if state != BatchInProgress && len(rest) > 0 { // cancelled meanwhile
			return s.skipSegments(ctx, tx, tenant, batch, now)
		}
		if pending > 0 {
			return nil
		}
		return s.finalize(ctx, tx, tenant, batch, now)
	})
}

func writeSegment(ctx context.Context, tx *sql.Tx, batch string, segment Segment, hasResult bool, attempt int) error {
	if !hasResult {
		return one(tx.ExecContext(ctx, `DELETE FROM segment WHERE batch = $1 AND n = $2 AND state = 'pending'`, batch, segment.N))
	}
	r := segment.Result
	return one(tx.ExecContext(ctx, `UPDATE segment SET state = 'done', lines = $3, length = $4, output = $5, output_bytes = $6,
		errors = $7, errors_bytes = $8, failed = $9, tokens = $10, attempt = $11 WHERE batch = $1 AND n = $2 AND state = 'pending'`,
		batch, segment.N, segment.Lines, segment.Length, r.Output, r.OutputBytes, r.Errors, r.ErrorsBytes, r.Failed,
		r.Tokens.Input+r.Tokens.Output, attempt))
}

// finalize begins to put the results of a batch together, of which all segments have one.
func (s *Store) finalize(ctx context.Context, tx *sql.Tx, tenant, batch string, now time.Time) error {
	_, err := tx.ExecContext(ctx, `UPDATE batch SET state = CASE WHEN state = 'in_progress' THEN 'finalizing' ELSE state END,
		finalizing_at = coalesce(finalizing_at, $3), version = version + 1 WHERE tenant = $1 AND id = $2`, tenant, batch, now.UnixMilli())
	if err != nil {
		return err
	}
	return s.addJobs(ctx, tx, Job{ID: batch + "/" + FinalizeJob, Queue: BatchQueue, Tenant: tenant, Kind: FinalizeJob, Args: batch, Priority: -1})
}

// addSegments adds segments that wait, with their jobs.
func (s *Store) addSegments(ctx context.Context, tx *sql.Tx, tenant, batch string, segments ...Segment) error {
	if len(segments) == 0 {
		return nil
	}
	insert, err := tx.PrepareContext(ctx, `INSERT INTO segment (batch, n, lines, at, length, duplicates, state) VALUES ($1, $2, $3, $4, $5, $6, 'pending')`)
	if err != nil {
		return err
	}
	defer insert.Close()
	var jobs []Job
	for _, segment := range segments {
		if _, err := insert.ExecContext(ctx, batch, segment.N, segment.Lines, segment.At, segment.Length, joinNumbers(segment.Duplicates)); err != nil {
			return err
		}
		jobs = append(jobs, Job{ID: segmentJobID(batch, segment), Queue: BatchQueue, Tenant: tenant, Kind: SegmentJob, Args: fmt.Sprint(batch, " ", segment.N), Deaths: segment.Deaths})
	}
	return s.addJobs(ctx, tx, jobs...)
}

// segmentJobID names the lines too, since a segment that was divided has a job of its own. Zeros keep the order.
func segmentJobID(batch string, segment Segment) string {
	return fmt.Sprintf("%s/%05d+%d", batch, segment.N, segment.Lines)
}

// ParseSegmentJob reads the args of a segment's job.
func ParseSegmentJob(args string) (batch string, n int64, err error) {
	batch, number, _ := strings.Cut(args, " ")
	n, err = strconv.ParseInt(number, 10, 64)
	return batch, n, err
}

// skipSegments drops the jobs of a batch that nobody has begun, and has their segments wait no more. If none runs, what is
// there is put together.
func (s *Store) skipSegments(ctx context.Context, tx *sql.Tx, tenant, batch string, now time.Time) error {
	// Jobs of this batch are those whose ids come between its own with a slash and with the letter behind it.
	_, err := tx.ExecContext(ctx, `DELETE FROM job WHERE id > $1 AND id < $2 AND kind = 'segment' AND state IN ('ready', 'later', 'dead')`, batch+"/", batch+"0")
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE segment SET state = 'skipped' WHERE batch = $1 AND state = 'pending' AND batch || ' ' || n NOT IN (
		SELECT args FROM job WHERE id > $2 AND id < $3 AND kind = 'segment' AND state = 'leased')`, batch, batch+"/", batch+"0")
	if err != nil {
		return err
	}
	var pending int
	err = tx.QueryRowContext(ctx, `UPDATE batch SET pending = (SELECT count(*) FROM segment WHERE batch = $2 AND state = 'pending')
		WHERE tenant = $1 AND id = $2 RETURNING pending`, tenant, batch).Scan(&pending)
	if err != nil || pending > 0 {
		return err
	}
	return s.finalize(ctx, tx, tenant, batch, now)
}

func scanSegment(row scanner) (segment Segment, err error) {
	var duplicates string
	r := &segment.Result
	err = row.Scan(&segment.N, &segment.Lines, &segment.At, &segment.Length, &duplicates, &segment.State,
		&r.Output, &r.OutputBytes, &r.Errors, &r.ErrorsBytes, &r.Failed, &segment.Attempt)
	segment.Duplicates = splitNumbers(duplicates)
	return segment, err
}

func joinNumbers(numbers []int64) string {
	var text []byte
	for i, number := range numbers {
		if i > 0 {
			text = append(text, ' ')
		}
		text = strconv.AppendInt(text, number, 10)
	}
	return string(text)
}

func splitNumbers(text string) (numbers []int64) {
	for _, field := range strings.Fields(text) {
		if number, err := strconv.ParseInt(field, 10, 64); err == nil {
			numbers = append(numbers, number)
		}
	}
	return numbers
}
