package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// States of a delivery.
const (
	DeliveryPending   = "pending" // until it is delivered, or given up
	DeliveryDelivered = "delivered"
	DeliveryDead      = "dead"
)

// Delivery is an event that a webhook is told of.
type Delivery struct {
	ID, Tenant, Webhook string
	Event, Type, Object string
	Data                string    // JSON; empty: the object's id alone
	At                  time.Time // of the event
	State               string
	Attempts            int
	Status              int       // of the last reply; 0: there was none
	Error               string    // of the last attempt; empty: there was none
	Tried               time.Time // these are zero until it happens
	Next                time.Time
	Ended               time.Time
}

const deliveryColumns = `id, tenant, webhook, event, type, object, data, event_at, state, attempts, status, error, tried_at, next_at, ended_at`

// Try is what came of an attempt to deliver.
type Try struct {
	State  string // pending: it is tried again
	Status int
	Error  string
	Sent   bool // false: it was not attempted, and does not count
	At     time.Time
	Again  time.Duration // after which it is tried again
	// Gone is a URL whose receiver wants to hear no more: a webhook that still has it is disabled.
	Gone string
}

// FindDelivery returns a delivery of a tenant's webhook, or ErrNotFound.
func (s *Store) FindDelivery(ctx context.Context, tenant, hook, id string) (Delivery, error) {
	delivery, err := findDelivery(ctx, s.r, tenant, hook, id)
	return delivery, s.explain(err)
}

func findDelivery(ctx context.Context, q querier, tenant, hook, id string) (Delivery, error) {
	delivery, err := scanDelivery(q.QueryRowContext(ctx, `SELECT `+deliveryColumns+` FROM delivery WHERE tenant = $1 AND webhook = $2 AND id = $3`, tenant, hook, id))
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("there is no delivery %.100q: %w", id, ErrNotFound)
	}
	return delivery, err
}

// DeliveriesPage returns at most so many deliveries of a tenant's webhook, newest first: those after one, or from the newest
// where that is empty.
func (s *Store) DeliveriesPage(ctx context.Context, tenant, hook, after string, most int) ([]Delivery, error) {
	return query(ctx, s, scanDelivery, `SELECT `+deliveryColumns+` FROM delivery
		WHERE tenant = $1 AND webhook = $2 AND (id < $3 OR $3 = '') ORDER BY id DESC LIMIT $4`, tenant, hook, after, most)
}

// ReplayDelivery has a delivery of a tenant's webhook made at once, whatever came of it so far, and returns it; ErrNotFound
// where there is none. One that is being made stays as it is.
func (s *Store) ReplayDelivery(ctx context.Context, tenant, hook, id string) (delivery Delivery, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		if delivery, err = findDelivery(ctx, tx, tenant, hook, id); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE job SET state = 'ready', errors = 0, deaths = 0, ended_at = NULL, due_at = `+s.dialect.now+`
			WHERE id = $1 AND state IN ('later', 'done', 'dead')`, id)
		if err != nil {
			return err
		}
		if err := s.addJobs(ctx, tx, deliveryJobOf(tenant, hook, id)); err != nil { // where the job is forgotten
			return err
		}
		var state string
		if err := tx.QueryRowContext(ctx, `SELECT state FROM job WHERE id = $1`, id).Scan(&state); err != nil || state == JobLeased {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE delivery SET state = 'pending', next_at = NULL, ended_at = NULL WHERE id = $1`, id)
		if err != nil {
			return err
		}
		delivery, err = findDelivery(ctx, tx, tenant, hook, id)
		return err
	})
	return delivery, err
}

// DeliveryOf returns what a job delivers, and to which webhook, or ErrNotFound where either is gone.
func (s *Store) DeliveryOf(ctx context.Context, job Job) (delivery Delivery, hook Webhook, err error) {
	if delivery, err = s.FindDelivery(ctx, job.Tenant, job.Args, job.ID); err == nil {
		hook, err = s.FindWebhook(ctx, job.Tenant, job.Args)
	}
	return delivery, hook, err
}

// RecordTry writes what came of an attempt, and what becomes of its job: both, or neither. ErrLost: the job is no longer the
// caller's.
func (s *Store) RecordTry(ctx context.Context, job Job, try Try) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		var err error
		var next, ended time.Time
		switch try.State {
		case DeliveryPending:
			next = try.At.Add(try.Again)
			job.Errors++
			err = s.retryJob(ctx, tx, job, try.Again, try.Error)
		case DeliveryDead:
			ended = try.At
			err = s.buryJob(ctx, tx, job, try.Error)
		default:
			ended = try.At
			err = s.finishJob(ctx, tx, job)
		}
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE delivery SET state = $2, attempts = attempts + $3, status = $4, error = $5, tried_at = $6, next_at = $7,
			ended_at = $8 WHERE id = $1`, job.ID, try.State, asNumber(try.Sent), try.Status, jobError(try.Error), milliseconds(try.At), milliseconds(next), milliseconds(ended))
		if err != nil || try.Gone == "" {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE webhook SET enabled = 0, disabled_for = $4 WHERE tenant = $1 AND id = $2 AND url = $3`,
			job.Tenant, job.Args, try.Gone, jobError(try.Error))
		return err
	})
}

// DropDelivery ends a job whose webhook is gone, with what it was to deliver.
func (s *Store) DropDelivery(ctx context.Context, job Job) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		if err := s.finishJob(ctx, tx, job); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM delivery WHERE id = $1`, job.ID)
		return err
	})
}

// PendingDeliveries returns how many deliveries of all tenants wait, and the time of the oldest one's event; zero: there is none.
func (s *Store) PendingDeliveries(ctx context.Context) (waiting int, oldest time.Time, err error) {
	var at sql.NullInt64
	err = s.r.QueryRowContext(ctx, `SELECT count(*), min(event_at) FROM delivery WHERE state = 'pending'`).Scan(&waiting, &at)
	return waiting, timeOf(at), s.explain(err)
}

// PruneDeliveries removes at most so many deliveries that ended before a time.
func (s *Store) PruneDeliveries(ctx context.Context, before time.Time, most int) (int, error) {
	return s.remove(ctx, `DELETE FROM delivery WHERE id IN (SELECT id FROM delivery WHERE ended_at < $1 LIMIT $2)`, before.UnixMilli(), most)
}

func scanDelivery(row scanner) (d Delivery, err error) {
	var at int64
	var tried, next, ended sql.NullInt64
	err = row.Scan(&d.ID, &d.Tenant, &d.Webhook, &d.Event, &d.Type, &d.Object, &d.Data, &at, &d.State, &d.Attempts, &d.Status, &d.Error, &tried, &next, &ended)
	d.At, d.Tried, d.Next, d.Ended = time.UnixMilli(at).UTC(), timeOf(tried), timeOf(next), timeOf(ended)
	return d, err
}
