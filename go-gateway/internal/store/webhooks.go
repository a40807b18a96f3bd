package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrWebhookLimit means that a tenant has as many webhooks as it may.
var ErrWebhookLimit = errors.New("the tenant has as many webhooks as it may")

// Webhook is what is stored of a tenant's webhook.
type Webhook struct {
	ID, Tenant  string
	Name, URL   string
	Events      []string // types
	Enabled     bool
	DisabledFor string // why it was disabled, where its tenant has not done so
	Secret      string
	OldSecret   string // signs too until OldUntil; empty: there is none
	OldUntil    time.Time
	Created     time.Time
	Updated     time.Time
}

const webhookColumns = `id, tenant, url, events, description, enabled, disabled_for, secret, old_secret, old_until, created_at, updated_at`

func scanWebhook(row scanner) (hook Webhook, err error) {
	var events string
	var enabled, created, updated int64
	var until sql.NullInt64
	err = row.Scan(&hook.ID, &hook.Tenant, &hook.URL, &events, &hook.Name, &enabled, &hook.DisabledFor, &hook.Secret, &hook.OldSecret, &until, &created, &updated)
	hook.Events, hook.Enabled = strings.Fields(events), enabled == 1
	hook.OldUntil, hook.Created, hook.Updated = timeOf(until), time.UnixMilli(created).UTC(), time.UnixMilli(updated).UTC()
	return hook, err
}

// AddWebhook adds a webhook, or returns ErrWebhookLimit where its tenant has most of them. A nil answer is none to keep; else
// ErrAnswered tells that it was added before.
func (s *Store) AddWebhook(ctx context.Context, tenant string, hook Webhook, most int, answer *Answer) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		if err := s.keepAnswer(ctx, tx, tenant, answer); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO webhook_limit (tenant, created) VALUES ($1, 1)
			ON CONFLICT (tenant) DO UPDATE SET created = webhook_limit.created + 1`, tenant) // others of the tenant wait here
		if err != nil {
			return err
		}
		var used int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM webhook WHERE tenant = $1`, tenant).Scan(&used); err != nil {
			return err
		}
		if used >= most {
			return ErrWebhookLimit
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO webhook (`+webhookColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
			hook.ID, tenant, hook.URL, strings.Join(hook.Events, " "), hook.Name, asNumber(hook.Enabled), hook.DisabledFor,
			hook.Secret, hook.OldSecret, milliseconds(hook.OldUntil), hook.Created.UnixMilli(), hook.Updated.UnixMilli())
		return err
	})
}

// WebhooksPage returns at most so many webhooks of a tenant, newest first: those after one, or from the newest where that is
// empty.
func (s *Store) WebhooksPage(ctx context.Context, tenant, after string, most int) ([]Webhook, error) {
	return query(ctx, s, scanWebhook, `SELECT `+webhookColumns+` FROM webhook WHERE tenant = $1 AND (id < $2 OR $2 = '') ORDER BY id DESC LIMIT $3`, tenant, after, most)
}

// FindWebhook returns a tenant's webhook, or ErrNotFound.
func (s *Store) FindWebhook(ctx context.Context, tenant, id string) (Webhook, error) {
	hook, err := findWebhook(ctx, s.r, tenant, id)
	return hook, s.explain(err)
}

func findWebhook(ctx context.Context, q querier, tenant, id string) (Webhook, error) {
	hook, err := scanWebhook(q.QueryRowContext(ctx, `SELECT `+webhookColumns+` FROM webhook WHERE tenant = $1 AND id = $2`, tenant, id))
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("there is no webhook %.100q: %w", id, ErrNotFound)
	}
	return hook, err
}

// ChangeWebhook has change make another one of a tenant's webhook, which nobody else changes meanwhile, and returns it. A nil
// answering has no answer to keep; else ErrAnswered tells that it was changed so before.
func (s *Store) ChangeWebhook(ctx context.Context, tenant, id string, change func(hook *Webhook) error, answering Answering[Webhook]) (hook Webhook, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		// Others that change it wait here. Where it is not there, it is not found below.
		if _, err := tx.ExecContext(ctx, `UPDATE webhook SET url = url WHERE tenant = $1 AND id = $2`, tenant, id); err != nil {
			return err
		}
		if hook, err = findWebhook(ctx, tx, tenant, id); err != nil {
			return err
		}
		if err := change(&hook); err != nil {
			return err
		}
		if answering != nil {
			answer, err := answering(hook)
			if err != nil {
				return err
			}
			if err := s.keepAnswer(ctx, tx, tenant, answer); err != nil {
				return err
			}
		}
		return one(tx.ExecContext(ctx, `UPDATE webhook SET url = $3, events = $4, description = $5, enabled = $6, disabled_for = $7,
			secret = $8, old_secret = $9, old_until = $10, updated_at = $11 WHERE tenant = $1 AND id = $2`, tenant, id, hook.URL, strings.Join(hook.Events, " "),
			hook.Name, asNumber(hook.Enabled), hook.DisabledFor, hook.Secret, hook.OldSecret, milliseconds(hook.OldUntil), hook.Updated.UnixMilli()))
	})
	return hook, err
}

// DeleteWebhook deletes a tenant's webhook, or returns ErrNotFound. Its deliveries are dropped as they come to their turn, or
// to their age.
func (s *Store) DeleteWebhook(ctx context.Context, tenant, id string) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		return one(tx.ExecContext(ctx, `DELETE FROM webhook WHERE tenant = $1 AND id = $2`, tenant, id))
	})
}
