package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"triptych.dev/gateway/cmd/consumer/internal/jobs"
)

// longestKey is that of an Idempotency-Key.
const longestKey = 255

// delivery is a message that is here, and how far it has come. One goroutine at a time has it.
type delivery struct {
	jetstream.Msg
	meta  *jetstream.MsgMetadata
	bound *binding
	key   string // the same in each delivery of the message
	began time.Time

	job       jobs.Job // once it is known
	letter    *letter  // not nil: it is a dead letter
	published bool     // the result or the dead letter is durable

	acks int // that were not confirmed

	claimed   atomic.Bool // by the worker that has it, or by whoever gives it back unworked
	mine      bool        // the worker's
	beginning sync.Once
	stop      chan struct{} // closed: its time is not prolonged any more
	stopped   chan struct{}
}

func newDelivery(message jetstream.Msg, bound *binding) (*delivery, error) {
	meta, err := message.Metadata()
	if err != nil {
		return nil, err
	}
	return &delivery{
		Msg: message, meta: meta, bound: bound, key: keyOf(message.Headers().Get(jetstream.MsgIDHeader), bound.stream, meta.Sequence.Stream),
		began: time.Now(), stop: make(chan struct{}), stopped: make(chan struct{}),
	}, nil
}

// keyOf is a message's Idempotency-Key: its own id, or its place in the stream. What no header may hold is hashed.
func keyOf(id, stream string, sequence uint64) string {
	if id == "" {
		id = fmt.Sprintf("%s.%d", stream, sequence)
	}
	if len(id) > longestKey || strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r > '~' }) || strings.TrimSpace(id) != id {
		sum := sha256.Sum256([]byte(id))
		return "sha256." + hex.EncodeToString(sum[:])
	}
	return id
}

func (d *delivery) claim() bool { return d.claimed.CompareAndSwap(false, true) }

// begin has NATS know, until end, that the message is being worked on.
func (d *delivery) begin() {
	d.beginning.Do(func() {
		go func() {
			defer close(d.stopped)
			ticker := time.NewTicker(d.bound.heartbeat)
			defer ticker.Stop()
			for {
				select {
				case <-d.stop:
					return
				case <-ticker.C:
					_ = d.InProgress() // while NATS is away it fails, and the next one may not
				}
			}
		}()
	})
}

func (d *delivery) end() {
	d.beginning.Do(func() { close(d.stopped) })
	close(d.stop)
	<-d.stopped
}

// examine returns why a message cannot be a job, whatever the gateway says.
func (d *delivery) examine(mostBytes int) *letter {
	switch data := d.Data(); {
	case len(data) > mostBytes:
		return &letter{reason: reasonTooLarge, message: fmt.Sprintf("%d bytes are more than max-message-bytes, %d", len(data), mostBytes)}
	case !json.Valid(data) || !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")):
		return &letter{reason: reasonNotJSON, message: "it is no JSON object"}
	case d.meta.NumDelivered > d.bound.maxDeliveries:
		return &letter{reason: reasonDeliveries, message: fmt.Sprintf("it was delivered %d times before, and not done", d.meta.NumDelivered-1)}
	default:
		return nil
	}
}
