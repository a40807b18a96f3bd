package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/moderation"
	"triptych.dev/gateway/internal/store"
)

// Asked is what a tenant says of a job.
type Asked struct {
	Endpoint string
	Body     []byte // JSON: what is sent to the endpoint
	Model    string // that it names; empty: none
	Metadata string // JSON; empty: none
	// Thresholds by which the texts of a moderation are judged; nil: they are not.
	Thresholds *moderation.Thresholds
}

// Create adds a job of which the request is known to be good, as far as that can be told before it is run.
func (j *Jobs) Create(ctx context.Context, owner identity.Principal, asked Asked, answering store.Answering[store.AsyncJob]) (store.AsyncJob, error) {
	now := j.Now().UTC().Truncate(time.Millisecond)
	job := store.AsyncJob{
		ID: store.NewID("job_", now), Tenant: owner.Tenant, Plan: owner.Plan.Name, Key: owner.KeyID, Scopes: owner.Scopes.String(),
		Endpoint: asked.Endpoint, Model: asked.Model, Metadata: asked.Metadata, BodyBytes: int64(len(asked.Body)), State: store.AsyncQueued,
		Created: now, Expires: now.Add(j.Window),
	}
	if asked.Thresholds != nil {
		texts, err := j.TextsOf(asked.Body)
		if err != nil {
			return store.AsyncJob{}, err
		}
		job.Thresholds, job.Inputs = asked.Thresholds.String(), int64(len(texts))
	}
	answer, err := answering(job)
	if err != nil {
		return store.AsyncJob{}, err
	}
	if job.Body, err = j.Files.Put(ctx, asked.Body); err != nil {
		return store.AsyncJob{}, err
	}
	most := store.BatchLimits{Jobs: int64(j.MaxOpen), Enqueued: owner.Plan.EnqueuedTokens, Reviews: int64(j.MaxReviews), ReviewBytes: j.MaxReviewBytes}
	err = j.Store.AddAsyncJob(ctx, owner.Tenant, job, most, answer)
	if full, is := errors.AsType[store.ErrBatchLimit](err); is {
		return store.AsyncJob{}, limited(owner.Plan, full, &job)
	}
	return job, explain(err, job.ID)
}

// limited says which limit another job would exceed.
func limited(plan identity.Plan, full store.ErrBatchLimit, job *store.AsyncJob) error {
	used, most := full.Used, full.Most
	switch enqueued := used.Enqueued + job.BodyBytes; {
	case most.Jobs > 0 && used.Jobs >= most.Jobs:
		return &fault.Fault{
			Reason: fault.BatchLimited, Limit: uint64(most.Jobs), Actual: uint64(used.Jobs),
			Message: fmt.Sprintf("The tenant has %d jobs that have not ended, and may have %d. Repeat the request once some have.", used.Jobs, most.Jobs),
		}
	case most.Enqueued > 0 && enqueued > most.Enqueued:
		return &fault.Fault{
			Reason: fault.BatchLimited, Limit: uint64(most.Enqueued), Actual: uint64(enqueued),
			Message: fmt.Sprintf("The plan %q allows %d tokens in batches and jobs that have not ended (enqueued_tokens); this one may come to %d, a byte for a token, and there are %d. Repeat the request once some have ended.",
				plan.Name, most.Enqueued, job.BodyBytes, used.Enqueued),
		}
	case most.ReviewBytes > 0 && job.Inputs > 0 && used.ReviewBytes+job.BodyBytes > most.ReviewBytes:
		return &fault.Fault{
			Reason: fault.StorageLimited, Param: "thresholds", Limit: uint64(most.ReviewBytes), Actual: uint64(used.ReviewBytes + job.BodyBytes),
			Message: fmt.Sprintf("The tenant's texts that wait for a review, or whose job has not ended, may have %d bytes; there are %d, and this job has %d. Decisions on GET /v1/moderation_reviews make room.",
				most.ReviewBytes, used.ReviewBytes, job.BodyBytes),
		}
	default:
		return &fault.Fault{
			Reason: fault.StorageLimited, Param: "thresholds", Limit: uint64(most.Reviews), Actual: uint64(used.Reviews + job.Inputs),
			Message: fmt.Sprintf("The tenant may have %d texts that wait for a review, or whose job has not ended; there are %d, and this job has %d. Decisions on GET /v1/moderation_reviews make room.",
				most.Reviews, used.Reviews, job.Inputs),
		}
	}
}
