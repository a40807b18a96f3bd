package store_test

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/testkit"
)

// What says COMMIT on PostgreSQL's wire: a query of its own, and the word that it is done.
var (
	commitAsked = []byte("Q\x00\x00\x00\x0bcommit\x00")
	commitDone  = []byte("C\x00\x00\x00\x0bCOMMIT\x00")
)

// commits stands between a process and PostgreSQL, and stops what it passes on at one COMMIT: before that has come, or once it is
// done and nobody knows.
type commits struct {
	listener net.Listener
	server   string
	left     atomic.Int64 // COMMITs until it stops
	done     bool
	stopped  chan struct{}
}

// throughCommits returns such a one, and options that lead through it. It stops at no COMMIT before left is set.
func throughCommits(t *testing.T, options store.Options, done bool) (*commits, store.Options) {
	t.Helper()
	place, err := url.Parse(options.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	c := &commits{listener: listener, server: place.Host, done: done, stopped: make(chan struct{}, 1)}
	place.Host = listener.Addr().String()
	options.DatabaseURL = place.String()
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go c.join(client)
		}
	}()
	return c, options
}

// join passes on what a connection says, until either side ends.
func (c *commits) join(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", c.server)
	if err != nil {
		return
	}
	defer server.Close()
	var silent atomic.Bool // the client is told nothing any more
	go func() {
		defer client.Close()
		for buffer := make([]byte, 1<<16); ; {
			n, err := server.Read(buffer)
			if err != nil {
				return
			}
			if silent.Load() {
				if bytes.Contains(buffer[:n], commitDone) {
					c.stopped <- struct{}{}
				}
				continue
			}
			if _, err := client.Write(buffer[:n]); err != nil {
				return
			}
		}
	}()
	for buffer := make([]byte, 1<<16); ; {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		if bytes.Contains(buffer[:n], commitAsked) && c.left.Add(-1) == 0 {
			if !c.done {
				c.stopped <- struct{}{}
				_, _ = io.Copy(io.Discard, client) // until the process is dead
				return
			}
			silent.Store(true)
		}
		if _, err := server.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// killAtCommits starts processes one after the other, and kills each at a COMMIT: every second one when that was done.
func killAtCommits(t *testing.T, told task) (all []*process) {
	t.Helper()
	random, options := testkit.Random(t), told.Store
	for kill := range testkit.Kills(t, 8) {
		var c *commits
		c, told.Store = throughCommits(t, options, kill%2 == 1)
		p := start(t, told)
		all = append(all, p)
		c.left.Store(1 + random.Int64N(12))
		select {
		case <-c.stopped:
		case <-time.After(30 * time.Second):
			t.Fatalf("no COMMIT came\n%s", p.said)
		}
		p.kill()
	}
	return all
}

// onPostgres runs a test where there are COMMITs that a network can lose. With SQLite there is nothing between: a kill there is as good
// as at any other moment.
func onPostgres(t *testing.T, test func(t *testing.T, options store.Options)) {
	store.Everywhere(t, func(t *testing.T, options store.Options) {
		if options.Postgres() {
			test(t, options)
		}
	})
}

// Workers are killed when their COMMIT is on its way, and when it is done and they do not know: each job has its effect once.
func TestWorkersKilledAtACommitLoseAndRepeatNothing(t *testing.T) {
	onPostgres(t, func(t *testing.T, options store.Options) {
		jobs := 25 * testkit.Kills(t, 8)
		s := newJobs(t, options, jobs)
		told := task{Store: options, Lease: 300 * time.Millisecond, Think: 2 * time.Millisecond}
		killAtCommits(t, told)
		t.Logf("after the kills %d of %d are done", effects(t, s), jobs)
		start(t, told)
		expectOnce(t, s, jobs)
	})
}

// So are processes that create, and repeat what they did: there is one of each, and one answer.
func TestProcessesKilledAtACommitCreateOnceUnderAKey(t *testing.T) {
	onPostgres(t, func(t *testing.T, options store.Options) {
		s, err := store.Open(t.Context(), options, store.Command)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.PrepareEffects(t) // with the clock that workers follow
		told := task{Store: options, Create: 15 * testkit.Kills(t, 8)}
		all := killAtCommits(t, told)
		expectCreated(t, s, told, all)
	})
}
