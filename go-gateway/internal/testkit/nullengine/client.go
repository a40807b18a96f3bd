package main

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// dialTimeout is for a server that does not listen any more.
	dialTimeout = 5 * time.Second
	// replyTimeout ends a request that nobody will answer; whole generations take less.
	replyTimeout = time.Minute
	inputBytes   = 16 << 10
)

// client has one request under way at a time, and one connection to each target.
//
// It speaks HTTP/1.1 by hand, with requests that are made beforehand, because on a small machine it takes its time from
// what it measures.
type client struct {
	plan  *plan
	start time.Time
	next  *atomic.Int64 // number of the next request of all clients

	wires []wire             // by target
	seen  []map[int]*replies // by target and status

	failed  int    // requests without a whole reply
	failure string // why the last one was
}

// wire is a keep-alive connection; the zero value is closed.
type wire struct {
	connection net.Conn
	input      *bufio.Reader
}

// replies are those of one status.
type replies struct {
	latencies []time.Duration
	onTime    int // of all that came, those between warm-up and end
	events    int // of streams
}

func newClient(p *plan, start time.Time, next *atomic.Int64) *client {
	c := &client{plan: p, start: start, next: next, wires: make([]wire, len(p.targets))}
	for range p.targets {
		c.seen = append(c.seen, map[int]*replies{})
	}
	return c
}

func (c *client) run(ctx context.Context) {
	defer func() {
		for i := range c.wires {
			c.wires[i].close()
		}
	}()
	for ctx.Err() == nil {
		number := int(c.next.Add(1) - 1)
		begin, due := c.wait(number)
		if !due {
			return
		}
		at, turn := number%len(c.plan.targets), number/len(c.plan.targets)
		to := &c.plan.targets[at]
		status, events, err := c.wires[at].ask(to.address, to.requests[turn%len(to.requests)])
		if err != nil {
			c.wires[at].close()
			c.failed, c.failure = c.failed+1, err.Error()
			continue
		}
		c.note(at, status, events, begin)
	}
}

// wait returns when a request is due, once it is; false when that is after the end.
//
// With a rate, latency counts from when a request was due, not from when it was sent: a driver that cannot keep up must
// not hide that somebody waits.
func (c *client) wait(number int) (time.Time, bool) {
	if c.plan.perSecond == 0 {
		now := time.Now()
		return now, now.Sub(c.start) < c.plan.duration
	}
	after := time.Duration(float64(number) / c.plan.perSecond * float64(time.Second))
	if after >= c.plan.duration || time.Since(c.start) >= c.plan.duration { // what is overdue by then is not sent at all
		return time.Time{}, false
	}
	due := c.start.Add(after)
	time.Sleep(time.Until(due))
	return due, true
}

// note keeps what is told of a reply. What came in the warm-up is not counted, nor how long a request took that was sent
// in it.
func (c *client) note(at, status, events int, begin time.Time) {
	now := time.Now()
	of := c.seen[at][status]
	if of == nil {
		of = &replies{}
		c.seen[at][status] = of
	}
	if begin.Sub(c.start) >= c.plan.warmup {
		of.latencies = append(of.latencies, now.Sub(begin))
		of.events += events
	}
	if since := now.Sub(c.start); since >= c.plan.warmup && since <= c.plan.duration {
		of.onTime++
	}
}

// ask sends one request and reads all of its reply.
func (w *wire) ask(address string, request []byte) (status, events int, err error) {
	if w.connection == nil {
		if w.connection, err = net.DialTimeout("tcp", address, dialTimeout); err != nil {
			return 0, 0, err
		}
		w.input = bufio.NewReaderSize(w.connection, inputBytes)
	}
	if err := w.connection.SetDeadline(time.Now().Add(replyTimeout)); err != nil {
		return 0, 0, err
	}
	if _, err := w.connection.Write(request); err != nil {
		return 0, 0, err
	}
	reply, err := http.ReadResponse(w.input, nil)
	if err != nil {
		return 0, 0, err
	}
	if events, err = countEvents(reply); err != nil {
		return 0, 0, err
	}
	if reply.Close {
		w.close()
	}
	return reply.StatusCode, events, nil
}

func (w *wire) close() {
	if w.connection != nil {
		_ = w.connection.Close()
		*w = wire{}
	}
}
