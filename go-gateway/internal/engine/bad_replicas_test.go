package engine

import (
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"triptych.dev/gateway/internal/testkit"
)

// road is the network before a hot path: it can be cut in the middle of a call.
type road struct {
	address string

	mu   sync.Mutex
	open []*net.TCPConn
}

func startRoad(t *testing.T, to string) *road {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &road{address: listener.Addr().String()}
	var carriers sync.WaitGroup
	carriers.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			r.mu.Lock()
			r.open = append(r.open, near.(*net.TCPConn), far.(*net.TCPConn))
			r.mu.Unlock()
			carry := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				_ = to.Close()
			}
			carriers.Go(func() { carry(near, far) })
			carriers.Go(func() { carry(far, near) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		r.reset()
		carriers.Wait()
	})
	return r
}

// reset ends all connections without a word.
func (r *road) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, connection := range r.open {
		_ = connection.SetLinger(0)
		_ = connection.Close()
	}
	r.open = nil
}

func TestAReplicaThatResetsItsConnections(t *testing.T) {
	clock := &clock{}
	bad, good := testkit.StartHotpath(t, "127.0.0.1:0"), testkit.StartHotpath(t, "127.0.0.1:0")
	road := startRoad(t, bad.Address)
	e := newEngine(t, patience, clock.now, road.address, good.Address)
	connected := func() bool {
		return !slices.ContainsFunc(e.pool.replicas(), func(r *replica) bool { return !r.connected() })
	}
	eventually(t, "both connections", connected)
	e.check(t.Context())
	bad.SetEmbed(answering(func() error {
		road.reset()
		return nil
	}))
	for range failuresToEject {
		eventually(t, "both connections", connected)
		embedAt(t, e, 0) // which may have begun there: it goes to no other one
	}
	if calls := callsTo(good); calls != 0 {
		t.Errorf("%d calls that were lost on the way were made again", calls)
	}
	eventually(t, "both connections", connected)
	if got := ejected(e); !slices.Equal(got, []bool{true, false}) {
		t.Fatalf("ejected: %v", got)
	}
	before := callsTo(bad)
	for range 20 {
		if _, err := e.Embed(t.Context(), request()); err != nil {
			t.Fatal(err)
		}
	}
	if calls := callsTo(bad) - before; calls != 0 {
		t.Errorf("%d calls more", calls)
	}
}

// TestAReplicaThatIsSlow: what it has not finished counts against it, without a word of its own.
func TestAReplicaThatIsSlow(t *testing.T) {
	e, hotpaths := fleet(t, time.Now, 2)
	began, release := hotpaths[0].Block()
	const calls = 100
	done := make(chan error, calls)
	for range calls {
		go func() {
			_, err := e.Embed(t.Context(), request())
			done <- err
		}()
		select {
		case <-began:
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := callsTo(hotpaths[0]); got != 1 {
		t.Errorf("%d of %d calls went to a replica that answers none", got, calls)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
