package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// ErrDecided means that somebody has decided otherwise.
var ErrDecided = errors.New("it was decided otherwise")

// Judged is what the texts of a job with thresholds came to.
type Judged struct {
	Verdict string
	// Reviews are the texts that people are asked about; of each only Input, Category and Score need be there.
	Reviews []Review
	// Content is the hash of the blob that has these texts, and Bytes its length.
	Content string
	Bytes   int64
	Forget  time.Time // from when on the reviews are not found, if nobody decides
}

func (j *Judged) verdict() string {
	if j == nil {
		return ""
	}
	return j.Verdict
}

func (j *Judged) reviews() int64 {
	if j == nil {
		return 0
	}
	return int64(len(j.Reviews))
}

func (j *Judged) reviewBytes() int64 {
	if j == nil {
		return 0
	}
	return reviewed(j.reviews(), j.Bytes)
}

// Review is a text that people are asked about.
type Review struct {
	ID, Tenant, Job string
	Input           int    // which of the job's texts it is, from 0
	Thresholds      string // the job's
	Category, Score string // the highest
	Content         string // the hash of the blob that has the text
	Bytes           int64
	Created         time.Time
	Decision        string // empty until somebody has decided
	Note            string
	DecidedBy       string    // the id of a key
	Decided         time.Time // zero until then
	Forgotten       time.Time // from when on it is not found
}

const reviewColumns = `id, tenant, job, input, thresholds, category, score, content, content_bytes, created_at, decision, note, decided_by, decided_at, forget_at`

// maxInput is the last that an id has room for.
const maxInput = 99_999

// ReviewID is the id of the review of one of a job's texts. Ids are in the order of jobs, and of their texts.
func ReviewID(job string, input int) string {
	return fmt.Sprintf("modrev_%s_%05d", strings.TrimPrefix(job, "job_"), input)
}

// ModerationEnded is what an event tells of a job of moderation.
type ModerationEnded struct {
	ID       string          `json:"id"`
	Status   string          `json:"status"`
	Verdict  *string         `json:"verdict"`  // null: there is none
	Metadata json.RawMessage `json:"metadata"` // the job's
}

// ModerationDecided is what an event tells of a decision.
type ModerationDecided struct {
	ID       string          `json:"id"`
	Job      string          `json:"job_id"`
	Index    int             `json:"index"`
	Decision string          `json:"decision"`
	Metadata json.RawMessage `json:"metadata"` // the job's
}

// endModeration adds the reviews of a job that ends, and the event that tells its verdict.
func (s *Store) endModeration(ctx context.Context, tx *sql.Tx, tenant, id, thresholds, metadata string, r AsyncResult, now time.Time) error {
	told := ModerationEnded{ID: id, Status: r.State, Metadata: json.RawMessage(cmp.Or(metadata, "null"))}
	kind := EventModerationFailed
	switch {
	case r.Judged != nil:
		kind, told.Verdict = "moderation."+r.Judged.Verdict, &r.Judged.Verdict
	case r.State == AsyncCancelled: // its tenant knows
		return nil
	}
	data, err := json.Marshal(told)
	if err != nil {
		return err
	}
	if err := s.addEvent(ctx, tx, tenant, kind, id, string(data), now); err != nil || r.Judged == nil {
		return err
	}
	for _, review := range r.Judged.Reviews {
		_, err := tx.ExecContext(ctx, `INSERT INTO moderation_review (id, tenant, job, input, thresholds, category, score, content, content_bytes, created_at, forget_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`, ReviewID(id, review.Input), tenant, id, review.Input, thresholds, review.Category, review.Score,
			r.Judged.Content, r.Judged.Bytes, now.UnixMilli(), r.Judged.Forget.UnixMilli())
		if err != nil {
			return err
		}
	}
	return nil
}

// FindReview returns a tenant's review, or ErrNotFound, as for one that is to be forgotten.
func (s *Store) FindReview(ctx context.Context, tenant, id string, now time.Time) (Review, error) {
	review, err := findReview(ctx, s.r, tenant, id, now)
	return review, s.explain(err)
}

func findReview(ctx context.Context, q querier, tenant, id string, now time.Time) (Review, error) {
	review, err := scanReview(q.QueryRowContext(ctx, `SELECT `+reviewColumns+` FROM moderation_review
		WHERE tenant = $1 AND id = $2 AND forget_at > $3`, tenant, id, now.UnixMilli()))
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("there is no review %.100q: %w", id, ErrNotFound)
	}
	return review, err
}

// ReviewStatus says which reviews a list has.
type ReviewStatus int

// All of these.
const (
	AnyReview ReviewStatus = iota
	PendingReview
	DecidedReview
)

// ReviewsPage returns at most so many of a tenant's reviews, oldest first: those after one, or from the oldest where that is
// empty.
func (s *Store) ReviewsPage(ctx context.Context, tenant string, status ReviewStatus, after string, most int, now time.Time) ([]Review, error) {
	only := map[ReviewStatus]string{PendingReview: ` AND decided_at IS NULL`, DecidedReview: ` AND decided_at IS NOT NULL`}[status]
	return query(ctx, s, scanReview, `SELECT `+reviewColumns+` FROM moderation_review WHERE tenant = $1 AND id > $2 AND forget_at > $3`+only+` ORDER BY id LIMIT $4`,
		tenant, after, now.UnixMilli(), most)
}

// Decision is what somebody says of a text.
type Decision struct {
	Decision, Note string
	By             string // the id of a key
	// Data is ModerationDecided as JSON.
	Data string
}

// DecideReview writes a decision on a tenant's review, until when that is known, and has its tenant's webhooks told. It returns
// the review. One that was decided before stays as it is; ErrDecided where that was otherwise.
func (s *Store) DecideReview(ctx context.Context, tenant, id string, decision Decision, now, forget time.Time) (review Review, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		decided, err := txQuery(ctx, tx, scanWaited, `UPDATE moderation_review SET decision = $3, note = $4, decided_by = $5, decided_at = $6, forget_at = $7
			WHERE tenant = $1 AND id = $2 AND decided_at IS NULL AND forget_at > $6 RETURNING tenant, job, content_bytes, 1`,
			tenant, id, decision.Decision, decision.Note, decision.By, now.UnixMilli(), forget.UnixMilli())
		if err != nil {
			return err
		}
		if len(decided) == 1 {
			if err := uncountReviews(ctx, tx, decided); err != nil {
				return err
			}
			if err := s.addEvent(ctx, tx, tenant, EventModerationDecided, id, decision.Data, now); err != nil {
				return err
			}
		}
		if review, err = findReview(ctx, tx, tenant, id, now); err != nil {
			return err
		}
		if review.Decision != decision.Decision {
			return ErrDecided
		}
		return nil
	})
	return review, err
}

// PendingReviews returns how many reviews of all tenants wait, and since when the oldest one does; zero: there is none.
func (s *Store) PendingReviews(ctx context.Context) (waiting int, oldest time.Time, err error) {
	var at sql.NullInt64
	err = s.r.QueryRowContext(ctx, `SELECT count(*), min(created_at) FROM moderation_review WHERE decided_at IS NULL`).Scan(&waiting, &at)
	return waiting, timeOf(at), s.explain(err)
}

// ForgetReviews removes at most so many reviews whose time is over.
func (s *Store) ForgetReviews(ctx context.Context, now time.Time, most int) (removed int, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		gone, err := txQuery(ctx, tx, scanWaited, `DELETE FROM moderation_review WHERE id IN (
			SELECT id FROM moderation_review WHERE forget_at <= $1 ORDER BY forget_at LIMIT $2`+s.dialect.skipLocked+`)
			RETURNING tenant, job, content_bytes, CASE WHEN decided_at IS NULL THEN 1 ELSE 0 END`, now.UnixMilli(), most)
		if err != nil {
			return err
		}
		removed = len(gone)
		return uncountReviews(ctx, tx, gone)
	})
	return removed, err
}

// waited is a review that was decided or removed.
type waited struct {
	tenant, job string
	bytes       int64 // of the content, which all reviews of the job share
	pending     int64 // 1: until now
}

func scanWaited(row scanner) (w waited, err error) {
	err = row.Scan(&w.tenant, &w.job, &w.bytes, &w.pending)
	return w, err
}

// uncountReviews has reviews that wait no more count no more, and their content neither once none of its job waits.
func uncountReviews(ctx context.Context, tx *sql.Tx, gone []waited) error {
	pending, contents := map[string]int64{}, map[string]map[string]int64{}
	for _, one := range gone {
		if one.pending == 0 {
			continue
		}
		pending[one.tenant]++
		if contents[one.tenant] == nil {
			contents[one.tenant] = map[string]int64{}
		}
		contents[one.tenant][one.job] = one.bytes
	}
	for _, tenant := range slices.Sorted(maps.Keys(pending)) { // in one order, so that no two wait for each other
		// The lock of this row has whoever decides another review of the job look at that only once this is committed.
		if err := countAsync(ctx, tx, tenant, asyncCount{reviews: -pending[tenant]}); err != nil {
			return err
		}
		var bytes int64
		for job, size := range contents[tenant] {
			var waits bool
			err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM moderation_review WHERE tenant = $1 AND id >= $2 AND id <= $3 AND decided_at IS NULL)`,
				tenant, ReviewID(job, 0), ReviewID(job, maxInput)).Scan(&waits)
			if err != nil {
				return err
			}
			if !waits {
				bytes += size
			}
		}
		if err := countAsync(ctx, tx, tenant, asyncCount{reviewBytes: -bytes}); err != nil {
			return err
		}
	}
	return nil
}

func scanReview(row scanner) (r Review, err error) {
	var created, forget int64
	var decided sql.NullInt64
	err = row.Scan(&r.ID, &r.Tenant, &r.Job, &r.Input, &r.Thresholds, &r.Category, &r.Score, &r.Content, &r.Bytes, &created,
		&r.Decision, &r.Note, &r.DecidedBy, &decided, &forget)
	r.Created, r.Decided, r.Forgotten = time.UnixMilli(created).UTC(), timeOf(decided), time.UnixMilli(forget).UTC()
	return r, err
}
