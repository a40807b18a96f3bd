package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"
)

// WebhookQueue is the queue of deliveries' jobs. The id of a job is that of its delivery, and its args are the webhook.
const WebhookQueue = "webhooks"

const deliveryJob = "delivery"

// Types of events.
const (
	EventBatchCompleted = "batch.completed"
	EventBatchFailed    = "batch.failed"
	EventBatchExpired   = "batch.expired"
	EventBatchCancelled = "batch.cancelled"
	EventJobCompleted   = "job.completed"
	EventJobFailed      = "job.failed"
	EventJobExpired     = "job.expired"
	EventJobCancelled   = "job.cancelled"
	// Of jobs of moderation with thresholds, by their verdict, or failed where there is none.
	EventModerationPassed  = "moderation.passed"
	EventModerationReview  = "moderation.review"
	EventModerationFlagged = "moderation.flagged"
	EventModerationFailed  = "moderation.failed"
	// EventModerationDecided is of a text that somebody was asked about.
	EventModerationDecided = "moderation.decided"
)

// EventTypes are those that a webhook may list. What has an end adds its own here, and calls addEvent in the transaction
// that ends it.
var EventTypes = []string{
	EventBatchCompleted, EventBatchFailed, EventBatchExpired, EventBatchCancelled,
	EventJobCompleted, EventJobFailed, EventJobExpired, EventJobCancelled,
	EventModerationPassed, EventModerationReview, EventModerationFlagged, EventModerationFailed, EventModerationDecided,
}

// addEvent tells a tenant that something has ended: each of its webhooks that are enabled and list the type gets a delivery
// and its job, in the transaction of the end itself. So nothing has ended that is not told, and nothing is told that has not.
// Where there is no such webhook, nothing is written. data is what is told of the object, as JSON; empty: its id alone.
func (s *Store) addEvent(ctx context.Context, tx *sql.Tx, tenant, kind, object, data string, now time.Time) error {
	if !slices.Contains(EventTypes, kind) {
		return fmt.Errorf("%q is no type of events", kind)
	}
	hooks, err := txQuery(ctx, tx, scanWebhook, `SELECT `+webhookColumns+` FROM webhook WHERE tenant = $1 AND enabled = 1 ORDER BY id`, tenant)
	if err != nil {
		return err
	}
	event := NewID("evt_", now)
	for _, hook := range hooks {
		if !slices.Contains(hook.Events, kind) {
			continue
		}
		id := NewID("msg_", now)
		_, err := tx.ExecContext(ctx, `INSERT INTO delivery (id, tenant, webhook, event, type, object, data, event_at, state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'pending')`,
			id, tenant, hook.ID, event, kind, object, data, now.UnixMilli())
		if err != nil {
			return err
		}
		if err := s.addJobs(ctx, tx, deliveryJobOf(tenant, hook.ID, id)); err != nil {
			return err
		}
	}
	return nil
}

func deliveryJobOf(tenant, hook, id string) Job {
	return Job{ID: id, Queue: WebhookQueue, Tenant: tenant, Kind: deliveryJob, Args: hook}
}
