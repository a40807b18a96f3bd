// Package webhook tells tenants' receivers of what has ended, as Standard Webhooks writes it.
//
// What is told is written by package store in the transaction of the end itself: a delivery, and a job of the lease queue. Each
// attempt is a POST to a URL that a tenant has named, so it goes only where the guard lets it: docs/webhooks.md.
//
// Errors that a user is told of are *fault.Fault. The package must not depend on how its own API looks.
package webhook

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/periodic"
	"triptych.dev/gateway/internal/queue"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/tracing"
)

const (
	// maxWebhooks are a tenant's at most.
	maxWebhooks = 16
	// DefaultOverlap is how long the secret before signs too, if nothing else is said; MaxOverlap is the most.
	DefaultOverlap = 24 * time.Hour
	MaxOverlap     = 7 * 24 * time.Hour
)

// Observer is told what happens, by several goroutines.
type Observer interface {
	queue.Observer
	// Attempted tells what came of an attempt, as one of the kinds.
	Attempted(kind string)
	// Waiting tells how many deliveries of all gateways wait, and the time of the oldest one's event; zero: there is none.
	Waiting(deliveries int, oldest time.Time)
}

// Options are what webhooks need.
type Options struct {
	Store   *store.Store
	Guard   Guard
	Workers int             // attempts at once
	Timeout time.Duration   // of an attempt
	Retries []time.Duration // the pauses between attempts
	Now     func() time.Time
	// Resolver and Roots are the system's where they are nil.
	Resolver *net.Resolver
	Roots    *x509.CertPool
	Observer Observer        // may be nil
	Tracer   *tracing.Tracer // may be nil
	Logger   *slog.Logger
}

// Webhooks are all tenants'. It is safe for concurrent use.
type Webhooks struct {
	Options
	sender   *sender
	shares   *shares
	watching periodic.Trouble // of watchTime
}

// New returns the webhooks of a store. Deliveries are made while Watch runs.
func New(options Options) *Webhooks {
	return &Webhooks{
		Options: options, shares: newShares(options.Workers),
		sender: newSender(options.Guard, options.Resolver, options.Roots, options.Timeout, options.Now),
	}
}

// Asked is what a tenant says of a webhook; nil is nothing.
type Asked struct {
	Name, URL *string
	Events    []string
	Enabled   *bool
}

func (w *Webhooks) apply(asked Asked, hook *store.Webhook) error {
	if asked.URL != nil {
		if err := w.Guard.CheckURL(*asked.URL); err != nil {
			return fault.InField(fault.InvalidValue, "url", "url %s.", err)
		}
		hook.URL = *asked.URL
	}
	if asked.Name != nil {
		hook.Name = *asked.Name
	}
	if asked.Events != nil {
		hook.Events = asked.Events
	}
	if asked.Enabled != nil {
		hook.Enabled = *asked.Enabled
		if hook.Enabled {
			hook.DisabledFor = ""
		}
	}
	return nil
}

// Create adds a webhook, of which name, URL and events are there. Its secret is in what is returned, and in what is answered.
func (w *Webhooks) Create(ctx context.Context, tenant string, asked Asked, answering store.Answering[store.Webhook]) (store.Webhook, error) {
	now := w.Now().UTC().Truncate(time.Millisecond)
	hook := store.Webhook{ID: store.NewID("wh_", now), Tenant: tenant, Enabled: true, Secret: newSecret(), Created: now, Updated: now}
	if err := w.apply(asked, &hook); err != nil {
		return store.Webhook{}, err
	}
	answer, err := answering(hook)
	if err != nil {
		return store.Webhook{}, err
	}
	err = w.Store.AddWebhook(ctx, tenant, hook, maxWebhooks, answer)
	if errors.Is(err, store.ErrWebhookLimit) {
		return store.Webhook{}, &fault.Fault{
			Reason: fault.StorageLimited, Limit: maxWebhooks, Actual: maxWebhooks, Cause: err,
			Message: fmt.Sprintf("The tenant has %d webhooks, and may have no more; deleting one makes room.", maxWebhooks),
		}
	}
	return hook, explain(err, hook.ID)
}

// Find returns a tenant's webhook.
func (w *Webhooks) Find(ctx context.Context, tenant, id string) (store.Webhook, error) {
	hook, err := w.Store.FindWebhook(ctx, tenant, id)
	return hook, explain(err, id)
}

// Page returns a tenant's webhooks after one, newest first, and whether more follow.
func (w *Webhooks) Page(ctx context.Context, tenant, after string, most int) (list []store.Webhook, more bool, err error) {
	list, more, err = store.PageOf(most, func(most int) ([]store.Webhook, error) { return w.Store.WebhooksPage(ctx, tenant, after, most) })
	return list, more, explain(err, after)
}

// Change changes what is said of a tenant's webhook.
func (w *Webhooks) Change(ctx context.Context, tenant, id string, asked Asked) (store.Webhook, error) {
	hook, err := w.Store.ChangeWebhook(ctx, tenant, id, func(hook *store.Webhook) error {
		hook.Updated = w.Now().UTC().Truncate(time.Millisecond)
		return w.apply(asked, hook)
	}, nil)
	return hook, explain(err, id)
}

// Rotate gives a tenant's webhook a new secret, which is in what is returned, and in the answer that is kept. The one before signs
// too for the overlap.
func (w *Webhooks) Rotate(ctx context.Context, tenant, id string, overlap time.Duration, answering store.Answering[store.Webhook]) (store.Webhook, error) {
	hook, err := w.Store.ChangeWebhook(ctx, tenant, id, func(hook *store.Webhook) error {
		hook.Updated = w.Now().UTC().Truncate(time.Millisecond)
		hook.OldSecret, hook.OldUntil = "", time.Time{}
		if overlap > 0 {
			hook.OldSecret, hook.OldUntil = hook.Secret, hook.Updated.Add(overlap)
		}
		hook.Secret = newSecret()
		return nil
	}, answering)
	return hook, explain(err, id)
}

// Delete deletes a tenant's webhook. What it was to be told of is not sent any more.
func (w *Webhooks) Delete(ctx context.Context, tenant, id string) error {
	return explain(w.Store.DeleteWebhook(ctx, tenant, id), id)
}

// Test sends a tenant's webhook a sample of an event at once, and returns the status of the reply. It is no delivery: it
// is tried once, and is not in the log of those.
func (w *Webhooks) Test(ctx context.Context, tenant, id, kind string) (status int, err error) {
	hook, err := w.Find(ctx, tenant, id)
	if err != nil {
		return 0, err
	}
	if !w.shares.tryTake(tenant, id) {
		return 0, fault.New(fault.QueueFull, "As many deliveries to this webhook, or of this tenant, are under way as there may be at once.")
	}
	defer w.shares.release(tenant, id)
	now := w.Now()
	got, err := w.sender.send(ctx, hook, sampleOf(kind, now))
	switch {
	case ctx.Err() != nil:
		return 0, explain(ctx.Err(), id)
	case err != nil:
		return 0, fault.InternalError(err)
	case got.status == 0:
		return 0, fault.InField(fault.InvalidValue, "url", "The webhook's url gave no reply: %s.", got.message)
	}
	return got.status, nil
}

// Deliveries returns deliveries of a tenant's webhook after one, newest first, and whether more follow.
func (w *Webhooks) Deliveries(ctx context.Context, tenant, id, after string, most int) (list []store.Delivery, more bool, err error) {
	if _, err := w.Find(ctx, tenant, id); err != nil {
		return nil, false, err
	}
	list, more, err = store.PageOf(most, func(most int) ([]store.Delivery, error) { return w.Store.DeliveriesPage(ctx, tenant, id, after, most) })
	return list, more, explain(err, after)
}

// Replay has a delivery of a tenant's webhook made again, with the same id.
func (w *Webhooks) Replay(ctx context.Context, tenant, id, delivery string) (store.Delivery, error) {
	if _, err := w.Find(ctx, tenant, id); err != nil {
		return store.Delivery{}, err
	}
	replayed, err := w.Store.ReplayDelivery(ctx, tenant, id, delivery)
	return replayed, files.Explain(err, DeliveryNotFound(delivery))
}

// NotFound says that a tenant has no webhook of an id.
func NotFound(id string) error {
	return fault.InField(fault.WebhookNotFound, "webhook_endpoint_id", "There is no webhook %.100q; GET /v1/webhook_endpoints lists them.", id)
}

// DeliveryNotFound says that a webhook has no delivery of an id.
func DeliveryNotFound(id string) error {
	return fault.InField(fault.WebhookNotFound, "delivery_id", "There is no delivery %.100q of this webhook; GET /v1/webhook_endpoints/ID/deliveries lists them.", id)
}

func explain(err error, id string) error {
	if refused, is := errors.AsType[*fault.Fault](err); is {
		return refused
	}
	return files.Explain(err, NotFound(id))
}
