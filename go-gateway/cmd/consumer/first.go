package main

import (
	"context"
	"errors"
	"io"
	"syscall"

	"github.com/nats-io/nats.go"

	"triptych.dev/gateway/internal/command"
)

// hangUps is how often in a row a server may end connections wordlessly, once TLS has got as far as our certificate. One
// that is just being stopped does so too, and is not there the next time.
const hangUps = 3

// connectFirst connects for the first time; without a connection and an error it was stopped. Whoever was never let in has a wrong
// setting, and is told at once; a server that is away is waited for. The connection then comes back by itself.
//
// The client's own way to wait for a first connection does not do: it keeps to itself why most attempts fail.
func (c *consumer) connectFirst(ctx context.Context) (*nats.Conn, error) {
	for attempt, hung := 0, 0; ctx.Err() == nil; attempt++ {
		c.trusted.Store(false)
		connection, err := c.attempt(ctx)
		if err == nil {
			c.trouble.over("NATS connection")
			return connection, nil
		}
		if c.trusted.Load() && hungUp(err) {
			hung++
		} else {
			hung = 0
		}
		if refused := refusal(c.settings, err, hung >= hangUps); refused != nil {
			return nil, command.Usage(refused)
		}
		c.trouble.report(ctx, "NATS connection", err)
		pause(ctx, attempt)
	}
	return nil, nil
}

// attempt goes through all servers once. The client knows no context: what is under way when ctx ends is left to its timeout.
func (c *consumer) attempt(ctx context.Context) (*nats.Conn, error) {
	type result struct {
		connection *nats.Conn
		err        error
	}
	made := make(chan result, 1)
	go func() {
		connection, err := nats.Connect(c.settings.natsURL, c.options...)
		made <- result{connection, err}
	}()
	select {
	case r := <-made:
		return r.connection, r.err
	case <-ctx.Done():
		go func() {
			if r := <-made; r.err == nil {
				r.connection.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// hungUp says whether the other side ended the connection, in place of a reply. So does a server that refuses our certificate, if
// what it has to say of it is lost: it closes while we still write.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
