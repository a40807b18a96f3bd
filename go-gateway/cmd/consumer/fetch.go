package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"triptych.dev/gateway/internal/command"
)

// fetchWait is how long a fetch waits for messages; after NATS was away, it is also how long one that was forgotten lasts.
const fetchWait = 5 * time.Second

// silenceWait bounds the wait for the end of a fetch.
const silenceWait = time.Second

// slots are the places for messages. What has no place here stays in the stream, where another process may have it.
type slots chan struct{}

func newSlots(count int) slots {
	s := make(slots, count)
	s.free(count)
	return s
}

func (s slots) free(count int) {
	for range count {
		s <- struct{}{}
	}
}

// take waits for one, and takes all that are free; 0 once ctx ends.
func (s slots) take(ctx context.Context) int {
	select {
	case <-ctx.Done():
		return 0
	case <-s:
	}
	for taken := 1; ; taken++ {
		select {
		case <-s:
		default:
			return taken
		}
	}
}

// fetch is the pool's source. What no worker took is given back in the end.
func (c *consumer) fetch(ctx context.Context, yield func(*delivery) bool) error {
	var left []*delivery
	defer func() {
		c.awaitSilence()
		close(c.silent)
		for _, d := range left {
			c.giveBack(d, 0)
		}
	}()
	for attempt := 0; ; {
		room := c.slots.take(ctx)
		if room == 0 {
			return nil
		}
		taken, err := c.fetchOnce(ctx, room, func(d *delivery) {
			// Of a pool that is ending nobody knows whether it has taken the message.
			if !yield(d) && d.claim() {
				left = append(left, d)
			}
		})
		c.slots.free(room - taken)
		if err == nil || ctx.Err() != nil {
			attempt = 0
			continue
		}
		c.trouble.report(ctx, "NATS", err)
		pause(ctx, attempt)
		attempt++
		// The consumer may have been deleted, and the stream made anew.
		if err := c.bind(ctx); err != nil && ctx.Err() == nil {
			if _, usage := errors.AsType[command.UsageError](err); usage {
				return err
			}
			c.trouble.report(ctx, "NATS", err)
		}
	}
}

// fetchOnce hands on at most so many messages, as they come, and says how many.
func (c *consumer) fetchOnce(ctx context.Context, room int, hand func(*delivery)) (taken int, err error) {
	bound := c.bound.Load()
	waiting, cancel := context.WithTimeout(ctx, fetchWait)
	defer cancel()
	batch, err := bound.consumer.Fetch(room, jetstream.FetchContext(waiting))
	if err != nil {
		return 0, err
	}
	for message := range batch.Messages() {
		d, err := newDelivery(message, bound)
		if err != nil {
			return taken, fmt.Errorf("a message that is none of JetStream's: %w", err)
		}
		c.metrics.fetched(d)
		taken++
		hand(d)
	}
	if err := batch.Error(); err != nil && !errors.Is(err, nats.ErrTimeout) && !errors.Is(err, context.DeadlineExceeded) {
		return taken, err
	}
	return taken, nil
}

// awaitSilence waits until the last fetch has ended for NATS too, whose client says so a moment later. What is given back
// before that comes to this process again, and nobody has it until its time is over.
func (c *consumer) awaitSilence() {
	for end := time.Now().Add(silenceWait); c.connection.NumSubscriptions() > c.subscriptions && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}
