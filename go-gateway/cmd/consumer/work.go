package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"triptych.dev/gateway/cmd/consumer/internal/jobs"
	"triptych.dev/gateway/internal/workpool"
)

const (
	// pollWait is how long the gateway is asked to wait for a job's end.
	pollWait = 20 * time.Second
	// pollLeast is between two questions where the gateway does not wait.
	pollLeast = 500 * time.Millisecond
	// A message comes back so much later, where its dead letter found no place: meanwhile others go on.
	letterDelay = 30 * time.Second
	ackTimeout  = 3 * time.Second
	mostAcks    = 2
)

// How a delivery ends.
const (
	outcomeAcked = "acked"
	outcomeDead  = "dead"
	outcomeNak   = "nak"
)

// errNoPlace is that of a dead letter that no stream took.
var errNoPlace = errors.New("the dead letter could not be published")

// errUnconfirmed is that of a message that is done, and whose acknowledgement NATS does not confirm.
var errUnconfirmed = errors.New("NATS does not confirm the acknowledgement; the message comes again")

// work brings a message as far as it can. The pool calls it again after what may pass.
func (c *consumer) work(ctx context.Context, d *delivery) (outcome string, err error) {
	if !d.mine && !d.claim() {
		return "", workpool.ErrEnding // it was given back
	}
	if !d.mine {
		d.mine = true
		c.metrics.inFlight.Inc()
		d.begin()
	}
	if d.letter == nil && !d.published {
		d.letter = d.examine(c.settings.maxMessageBytes)
	}
	if d.letter == nil && !d.published {
		if err := c.complete(ctx, d); err != nil {
			return "", err
		}
	}
	if d.letter != nil && !d.published {
		if err := c.bury(ctx, d); err != nil {
			return "", fmt.Errorf("%w: %w", errNoPlace, err)
		}
		d.published = true
	}
	if d.letter != nil {
		return outcomeDead, at("NATS", d.TermWithReason(d.letter.reason))
	}
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	if err := d.DoubleAck(ctx); err != nil {
		// A server that was killed may not know that it has delivered the message, and will do so again: then it is done quickly.
		if d.acks++; d.acks >= mostAcks && c.connection.IsConnected() {
			return "", fmt.Errorf("%w: %w", errUnconfirmed, err)
		}
		return "", at("NATS", err)
	}
	c.trouble.over("NATS")
	c.trouble.over("acknowledgements")
	return outcomeAcked, nil
}

// failure is an error, and where it comes from.
type failure struct {
	where string
	error
}

func (f failure) Unwrap() error { return f.error }

func at(where string, err error) error {
	if err == nil {
		return nil
	}
	return failure{where, err}
}

// complete has the job done and its result published, or finds that it is a dead letter.
func (c *consumer) complete(ctx context.Context, d *delivery) error {
	if d.job.ID == "" {
		job, err := c.jobs.Create(ctx, d.key, d.Data())
		if err != nil {
			return c.refused(d, err, reasonRefused)
		}
		d.job = job
	}
	for !d.job.Ended() {
		asked := time.Now()
		job, err := c.jobs.Await(ctx, d.job.ID, pollWait)
		if err != nil {
			return c.refused(d, err, reasonForgotten)
		}
		if d.job = job; !job.Ended() && !workpool.Sleep(ctx, pollLeast-time.Since(asked)) {
			return context.Cause(ctx)
		}
	}
	c.trouble.over("gateway")
	if d.job.Status != jobs.StatusCompleted {
		status, code := d.job.Failure()
		d.letter = &letter{reason: "job_" + d.job.Status, status: status, code: code, message: "its job has no result; the gateway has the reason", job: d.job.ID}
		return nil
	}
	if c.settings.results != "" {
		if err := c.publishResult(ctx, d); err != nil {
			return at("results", err)
		}
		c.trouble.over("results")
	}
	d.published = true
	return nil
}

// refused makes a dead letter of what is refused for good, and returns any other error.
func (c *consumer) refused(d *delivery, err error, reason string) error {
	refusal, ok := errors.AsType[*jobs.Refusal](err)
	if !ok || !refusal.Permanent() {
		return at("gateway", err)
	}
	c.trouble.over("gateway") // it answers
	d.letter = &letter{reason: reason, status: refusal.Status, code: refusal.Code, message: refusal.Message, job: d.job.ID}
	return nil
}

// again says whether an error passes, and after what pause at least.
func (c *consumer) again(err error) (least time.Duration, again bool) {
	switch {
	case errors.Is(err, errNoPlace), errors.Is(err, errUnconfirmed), errors.Is(err, workpool.ErrEnding), errors.Is(err, context.Canceled):
		return 0, false
	case errors.Is(err, nats.ErrNoResponders):
		return 0, false // the consumer that the message came from is not there any more
	}
	where, status, quiet := "gateway", "none", false
	if failure, ok := errors.AsType[failure](err); ok {
		where = failure.where
	}
	if refusal, ok := errors.AsType[*jobs.Refusal](err); ok {
		least, status, quiet = refusal.Pause, strconv.Itoa(refusal.Status), refusal.InFlight()
	}
	c.metrics.retries.WithLabelValues(where, status).Inc()
	if !quiet {
		c.trouble.report(context.Background(), where, err)
	}
	return least, true
}

// settle is the pool's sink: what was not done is given back.
func (c *consumer) settle(result workpool.Result[*delivery, string]) error {
	d, outcome := result.Item, result.Value
	if d.mine {
		d.end()
	}
	if result.Err != nil {
		outcome = outcomeNak
		delay := c.letterDelay
		switch {
		case errors.Is(result.Err, workpool.ErrEnding), errors.Is(result.Err, context.Canceled):
			delay = 0  // another process has it at once
			<-c.silent // and not this one again
		case errors.Is(result.Err, errUnconfirmed):
			delay = 0
			c.trouble.report(context.Background(), "acknowledgements", result.Err)
		default:
			c.logger.Error("a message is given back", "stream_sequence", d.meta.Sequence.Stream, "delivery", d.meta.NumDelivered,
				"job", d.job.ID, "error", result.Err.Error())
		}
		c.giveBack(d, delay)
	}
	if d.mine {
		c.metrics.ended(outcome, time.Since(d.began))
	}
	c.slots.free(1)
	return nil
}

// giveBack has a message delivered again. If NATS is away, that is so when its time is over.
func (c *consumer) giveBack(d *delivery, delay time.Duration) {
	nak := d.Nak
	if delay > 0 {
		nak = func() error { return d.NakWithDelay(delay) }
	}
	if err := nak(); err != nil {
		c.logger.Debug("a message could not be given back", "stream_sequence", d.meta.Sequence.Stream, "error", err.Error())
	}
}
