package jobs

import (
	"bytes"
	"context"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/moderation"
	"triptych.dev/gateway/internal/periodic"
	"triptych.dev/gateway/internal/store"
)

// reviewInterval is how often reviews are counted, and removed.
const reviewInterval = 15 * time.Second

// errNotKept is a disk that did not take what people are to be shown.
var errNotKept = errors.New("the texts for people could not be kept")

// judge is what a moderation's texts come to, of which those that people are asked about are a blob by then. An error says that
// the reply is none.
func (w *worker) judge(ctx context.Context, found *store.AsyncJob, request, reply []byte) (*store.Judged, error) {
	thresholds, err := moderation.ParseThresholds(found.Thresholds)
	if err != nil {
		return nil, err
	}
	texts, err := w.TextsOf(request)
	if err != nil {
		return nil, err
	}
	judgments, err := moderation.Judge(reply, len(texts), thresholds)
	if err != nil {
		return nil, err
	}
	judged := &store.Judged{Verdict: string(moderation.Worst(judgments)), Forget: w.Now().Add(w.ReviewKept)}
	for i, judgment := range judgments {
		if judgment.Verdict == moderation.Review {
			judged.Reviews = append(judged.Reviews, store.Review{
				Input: i, Category: judgment.Category, Score: strconv.FormatFloat(float64(judgment.Score), 'g', -1, 32),
			})
		}
	}
	if len(judged.Reviews) == 0 {
		return judged, nil
	}
	content, err := moderation.ContentOf(found.Metadata, texts, judgments).Bytes()
	if err != nil {
		return nil, err
	}
	id, size, err := w.Files.Blobs.Put(ctx, bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotKept, err)
	}
	judged.Content, judged.Bytes = id.String(), size
	return judged, nil
}

// Review is a text that people are asked about, with what they are shown. In lists that is absent.
type Review struct {
	store.Review
	Text     *moderation.Text
	Metadata jsontext.Value
}

// Decision is what somebody says of a text.
type Decision struct {
	Verdict moderation.Verdict
	Note    string
}

// Reviews returns a tenant's reviews after one, oldest first, and whether more follow.
func (j *Jobs) Reviews(ctx context.Context, tenant string, status store.ReviewStatus, after string, most int) (list []Review, more bool, err error) {
	stored, more, err := store.PageOf(most, func(most int) ([]store.Review, error) {
		return j.Store.ReviewsPage(ctx, tenant, status, after, most, j.Now())
	})
	for _, review := range stored {
		list = append(list, Review{Review: review})
	}
	return list, more, files.Explain(err, ReviewNotFound(after))
}

// FindReview returns a tenant's review.
func (j *Jobs) FindReview(ctx context.Context, tenant, id string) (Review, error) {
	found, err := j.Store.FindReview(ctx, tenant, id, j.Now())
	if err != nil {
		return Review{}, files.Explain(err, ReviewNotFound(id))
	}
	return j.withText(found)
}

// withText reads what people are shown.
func (j *Jobs) withText(stored store.Review) (Review, error) {
	kept, err := j.Files.Read(stored.Content)
	if err != nil {
		return Review{}, fault.InternalError(err)
	}
	content, err := moderation.ParseContent(kept)
	if err != nil {
		return Review{}, fault.InternalError(err)
	}
	text, err := content.Text(stored.Input)
	if err != nil {
		return Review{}, fault.InternalError(err)
	}
	return Review{stored, &text, content.Metadata}, nil
}

// Decide writes what somebody with a key has decided on a text of a tenant. One that was decided before stays as it is: the same
// decision is answered alike, and another one is refused.
func (j *Jobs) Decide(ctx context.Context, owner identity.Principal, id string, decision Decision) (Review, error) {
	review, err := j.FindReview(ctx, owner.Tenant, id)
	if err != nil {
		return Review{}, err
	}
	data, err := json.Marshal(store.ModerationDecided{
		ID: id, Job: review.Job, Index: review.Input, Decision: string(decision.Verdict), Metadata: stdjson.RawMessage(review.Metadata),
	})
	if err != nil {
		return Review{}, fault.InternalError(err)
	}
	now := j.Now().UTC().Truncate(time.Millisecond)
	stored, err := j.Store.DecideReview(ctx, owner.Tenant, id, store.Decision{
		Decision: string(decision.Verdict), Note: decision.Note, By: owner.KeyID, Data: string(data),
	}, now, now.Add(j.kept(owner.Plan)))
	if errors.Is(err, store.ErrDecided) {
		return Review{}, fault.InField(fault.ReviewDecided, "decision", "The key %s has decided %q at %s, which stands.",
			stored.DecidedBy, stored.Decision, stored.Decided.Format(time.RFC3339))
	}
	review.Review = stored
	return review, files.Explain(err, ReviewNotFound(id))
}

// ReviewNotFound says that a tenant has no review of an id.
func ReviewNotFound(id string) error {
	return fault.InField(fault.ReviewNotFound, "review_id", "There is no review %.100q; GET /v1/moderation_reviews lists them.", id)
}

// watchReviews counts the texts that wait for people, and removes those whose time is over.
func (j *Jobs) watchReviews(ctx context.Context) {
	now := j.Now()
	err := periodic.Steps(ctx, func(ctx context.Context) (int, error) { return j.Store.ForgetReviews(ctx, now, watchAtOnce) })
	if err == nil && j.Waiting != nil {
		var waiting int
		var oldest time.Time
		if waiting, oldest, err = j.Store.PendingReviews(ctx); err == nil {
			j.Waiting(waiting, oldest)
		}
	}
	if ctx.Err() == nil && j.watchingReviews.Began(err) {
		j.Logger.Warn("reviews could not be counted, or forgotten; this is tried again", "cause", err)
	}
}
