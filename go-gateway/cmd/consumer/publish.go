package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Reasons of dead letters, beside "job_" and the status that a job without a result ended in.
const (
	reasonTooLarge   = "too_large"
	reasonNotJSON    = "not_json"
	reasonDeliveries = "deliveries"
	reasonRefused    = "refused"
	reasonForgotten  = "job_forgotten"
)

// letter is why a message is a dead letter.
type letter struct {
	reason  string
	status  int    // of the gateway's refusal; 0: there is none
	code    string // of it
	message string
	job     string // the job's id; empty: there is none
}

// headroom is what a message's headers take beyond its data, at most, but for those that it came with.
const headroom = 4 << 10 // bytes

// publishResult returns once the result is in its stream, where it is once: JetStream drops what has the same id as another
// one within a window.
func (c *consumer) publishResult(ctx context.Context, d *delivery) error {
	message := nats.NewMsg(c.settings.resultSubject(d.job.ID, d.Subject()))
	message.Data = d.job.Raw
	d.origin(message.Header)
	message.Header.Set("Job-Id", d.job.ID)
	if int64(len(message.Data)+headroom) > c.connection.MaxPayload() {
		message.Header.Set("Result-Omitted", strconv.Itoa(len(message.Data)))
		message.Data = fmt.Appendf(nil, `{"id":%q,"object":"job","status":%q}`, d.job.ID, d.job.Status)
	}
	if !strings.Contains(c.settings.results, jobPlace) {
		return c.publish(ctx, message, d.job.ID)
	}
	// Where each job has a subject of its own, the stream itself says whether there is a result already, also after its window.
	err := c.publish(ctx, message, d.job.ID, jetstream.WithExpectLastSequencePerSubject(0))
	if refusal, ok := errors.AsType[*jetstream.APIError](err); ok &&
		(refusal.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || refusal.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) {
		return nil
	}
	return err
}

// bury returns once the message is in the stream of dead letters.
func (c *consumer) bury(ctx context.Context, d *delivery) error {
	message := nats.NewMsg(c.settings.dead)
	message.Data = d.Data()
	for name, values := range d.Headers() { // its own; NATS' say how it was published
		if len(name) < 5 || name[:5] != "Nats-" {
			message.Header[name] = values
		}
	}
	d.origin(message.Header)
	l := d.letter
	message.Header.Set("Dead-Reason", l.reason)
	message.Header.Set("Dead-Message", printable(l.message))
	if l.status != 0 {
		message.Header.Set("Dead-Status", strconv.Itoa(l.status))
	}
	if l.code != "" {
		message.Header.Set("Dead-Code", printable(l.code))
	}
	if l.job != "" {
		message.Header.Set("Job-Id", l.job)
	}
	if err := c.publish(ctx, message, fmt.Sprintf("dead.%s.%d", d.bound.stream, d.meta.Sequence.Stream)); err != nil {
		return err
	}
	c.metrics.dead.WithLabelValues(l.reason).Inc()
	c.logger.Warn("dead letter", "reason", l.reason, "status", l.status, "code", l.code, "job", l.job,
		"stream_sequence", d.meta.Sequence.Stream, "delivery", d.meta.NumDelivered)
	return nil
}

// origin says what a message is made of.
func (d *delivery) origin(header nats.Header) {
	header.Set("Original-Subject", d.Subject())
	header.Set("Original-Stream", d.meta.Stream)
	header.Set("Original-Sequence", strconv.FormatUint(d.meta.Sequence.Stream, 10))
	header.Set("Original-Deliveries", strconv.FormatUint(d.meta.NumDelivered, 10))
	if id := d.Headers().Get(jetstream.MsgIDHeader); id != "" {
		header.Set("Original-Msg-Id", id)
	}
}

func (c *consumer) publish(ctx context.Context, message *nats.Msg, id string, options ...jetstream.PublishOpt) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := c.stream.PublishMsg(ctx, message, append(options, jetstream.WithMsgID(id))...)
	return err
}

// printable is a text as a header may have it.
func printable(text string) string {
	kept := make([]rune, 0, 200)
	for _, r := range text {
		if len(kept) == cap(kept) {
			break
		}
		if r < ' ' || r == 0x7f {
			r = ' '
		}
		kept = append(kept, r)
	}
	return string(kept)
}
