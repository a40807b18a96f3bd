package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"triptych.dev/gateway/internal/command"
	"triptych.dev/gateway/internal/workpool"
)

const (
	requestTimeout = 5 * time.Second
	watchEvery     = 5 * time.Second
)

// binding is the consumer that NATS keeps, as it was found last.
type binding struct {
	consumer  jetstream.Consumer
	stream    string        // its name, and when it was made: what tells its sequences from those of one that had its name
	heartbeat time.Duration // how often a message's time is to be prolonged
	// maxDeliveries is how often a message may be delivered and worked on.
	maxDeliveries uint64
}

// bindPatiently binds as soon as all is there, or returns once ctx ends. Its error is what waiting does not mend.
func (c *consumer) bindPatiently(ctx context.Context) error {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		err := c.bind(ctx)
		if _, usage := errors.AsType[command.UsageError](err); err == nil || usage {
			return err
		}
		c.trouble.report(ctx, "NATS", err)
		pause(ctx, attempt)
	}
	return nil
}

// bind finds the consumer, or makes it.
func (c *consumer) bind(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if !c.connection.IsConnected() {
		if last := c.connection.LastError(); last != nil {
			return fmt.Errorf("there is no connection: %w", last)
		}
		return errors.New("there is no connection")
	}
	s := c.settings
	stream, err := c.stream.Stream(ctx, s.stream)
	if err != nil {
		return fmt.Errorf("stream %s: %w", s.stream, err)
	}
	for _, kept := range []struct{ setting, subject string }{{"dead-subject", s.dead}, {"results-subject", s.resultSubject("job", "subject")}} {
		if kept.subject == "" {
			continue
		}
		keeper, err := c.stream.StreamNameBySubject(ctx, kept.subject)
		if err != nil {
			return fmt.Errorf("%s: a stream has to keep %s: %w", kept.setting, kept.subject, err)
		}
		if keeper == s.stream {
			return command.Usage(fmt.Errorf("%s: %s is kept by the stream that is read, %s: choose another stream", kept.setting, kept.subject, s.stream))
		}
	}
	found, err := stream.Consumer(ctx, s.consumer)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		found, err = stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
			Durable: s.consumer, Description: "messages that the gateway does as jobs", FilterSubject: s.filter,
			AckPolicy: jetstream.AckExplicitPolicy, AckWait: s.ackWait, MaxAckPending: s.maxAckPending,
			// Ours counts: the server only ceases to deliver, and what it has ceased to deliver nobody can make a dead letter of.
			MaxDeliver: -1,
		})
	}
	if err != nil {
		return fmt.Errorf("consumer %s: %w", s.consumer, err)
	}
	return c.take(found, stream.CachedInfo())
}

// take looks at what was found.
func (c *consumer) take(found jetstream.Consumer, stream *jetstream.StreamInfo) error {
	config := found.CachedInfo().Config
	if config.DeliverSubject != "" || config.AckPolicy != jetstream.AckExplicitPolicy {
		return command.Usage(fmt.Errorf("consumer %s: it must be a pull consumer with explicit acknowledgement", config.Durable))
	}
	next := &binding{
		consumer: found, stream: fmt.Sprintf("%s.%d", stream.Config.Name, stream.Created.Unix()),
		heartbeat: config.AckWait / 3, maxDeliveries: uint64(c.settings.maxDeliveries),
	}
	for _, wait := range config.BackOff { // it has these in place of its AckWait
		next.heartbeat = min(next.heartbeat, wait/3)
	}
	next.heartbeat = max(next.heartbeat, 50*time.Millisecond)
	first := c.bound.Swap(next) == nil
	if most := config.MaxDeliver; most > 0 {
		// The last delivery is kept for making a dead letter of it.
		next.maxDeliveries = min(next.maxDeliveries, uint64(most-1))
		if first {
			c.logger.Warn("the consumer has a max_deliver of its own: if a process dies in a message's last delivery, it stays in the stream "+
				"undelivered, and only NATS' advisory tells of it", "max_deliver", most)
		}
	}
	if first && (stream.Config.Discard != jetstream.DiscardNew || stream.Config.MaxMsgs <= 0 && stream.Config.MaxBytes <= 0) {
		c.logger.Warn("the stream does not push back on producers: it needs max_msgs or max_bytes, and discard=new, or it drops "+
			"its oldest messages, or grows without bound", "stream", stream.Config.Name)
	}
	c.trouble.over("NATS")
	c.logger.Info("bound", "stream", stream.Config.Name, "consumer", config.Durable, "ack_wait", config.AckWait.String(),
		"max_ack_pending", config.MaxAckPending, "first", first)
	return nil
}

// watch keeps what waits in the consumer as metrics.
func (c *consumer) watch(ctx context.Context) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		asking, cancel := context.WithTimeout(ctx, requestTimeout)
		info, err := c.bound.Load().consumer.Info(asking)
		cancel()
		c.metrics.queue(info, err)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// pause waits a random time, which grows with the attempts, or until ctx ends.
func pause(ctx context.Context, attempt int) {
	limit := min(backOffBase<<min(attempt, 10), backOffMost)
	workpool.Sleep(ctx, limit/4+rand.N(limit))
}
