package engine

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"triptych.dev/gateway/internal/testkit"
)

// names answers lookups.
type names struct {
	mu      sync.Mutex
	hosts   []string
	err     error
	lookups int
}

func (n *names) LookupHost(_ context.Context, host string) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lookups++
	if host != "hotpaths.example" {
		return nil, errors.New("unknown")
	}
	return slices.Clone(n.hosts), n.err
}

func (n *names) set(err error, hosts ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts, n.err = hosts, err
}

func (n *names) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lookups
}

// named is an engine for a name, and fakes at one port of several loopback addresses.
func named(t *testing.T, hosts ...string) (*Engine, *names, []*testkit.Hotpath) {
	t.Helper()
	first := testkit.StartHotpath(t, net.JoinHostPort(hosts[0], "0"))
	_, port, _ := net.SplitHostPort(first.Address)
	hotpaths := []*testkit.Hotpath{first}
	for _, host := range hosts[1:] {
		hotpaths = append(hotpaths, testkit.StartHotpath(t, net.JoinHostPort(host, port)))
	}
	e := newEngine(t, patience, time.Now, "dns:///hotpaths.example:"+port)
	names := &names{}
	e.options.Resolver = names
	return e, names, hotpaths
}

// lookUp looks all names up once, and waits for connections.
func (e *Engine) lookUp(t *testing.T) {
	t.Helper()
	for _, n := range e.pool.names {
		e.pool.lookUp(t.Context(), n)
	}
	eventually(t, "connections", func() bool {
		return !slices.ContainsFunc(e.pool.replicas(), func(r *replica) bool { return !r.connected() })
	})
}

func (e *Engine) addresses() (hosts []string) {
	for _, r := range e.pool.replicas() {
		host, _, _ := net.SplitHostPort(r.address)
		hosts = append(hosts, host)
	}
	return hosts
}

func TestReplicasOfAName(t *testing.T) {
	e, names, hotpaths := named(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	if _, err := e.Embed(t.Context(), request()); reasonOf(err) != "HOTPATH_UNAVAILABLE" {
		t.Errorf("before the first lookup: %v", err)
	}
	if _, err := e.Models(); reasonOf(err) != "HOTPATH_UNAVAILABLE" || ready(e) {
		t.Errorf("before the first lookup: %v", err)
	}
	is := func(what string, hosts ...string) {
		t.Helper()
		if e.lookUp(t); !slices.Equal(e.addresses(), hosts) {
			t.Errorf("%s: %v, want %v", what, e.addresses(), hosts)
		}
	}
	names.set(nil, "127.0.0.2", "127.0.0.1", "127.0.0.2")
	is("two", "127.0.0.1", "127.0.0.2")
	one := e.pool.replicas()[0]
	for range 40 {
		if _, err := e.Embed(t.Context(), request()); err != nil {
			t.Fatal(err)
		}
	}
	if callsTo(hotpaths[0]) == 0 || callsTo(hotpaths[1]) == 0 {
		t.Error("one of two got no call")
	}
	names.set(nil, "127.0.0.3", "127.0.0.1")
	is("one went and one came", "127.0.0.1", "127.0.0.3")
	if e.pool.replicas()[0] != one {
		t.Error("the one that stays was replaced")
	}
	names.set(errors.New("no such host"))
	is("a failed lookup", "127.0.0.1", "127.0.0.3")
	names.set(nil)
	is("an empty answer", "127.0.0.1", "127.0.0.3")
	names.set(nil, "127.0.0.3")
	is("resolved again", "127.0.0.3")
}

func TestANameIsLookedUpAgain(t *testing.T) {
	e, names, hotpaths := named(t, "127.0.0.1", "127.0.0.2")
	names.set(nil, "127.0.0.1")
	e.options.ResolveInterval = time.Hour
	watched := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { defer close(watched); e.Watch(ctx) }()
	eventually(t, "ready", func() bool { return ready(e) })
	names.set(nil, "127.0.0.2")
	hotpaths[0].Stop() // which is why it is looked up before its time
	eventually(t, "the other one serves", func() bool { return slices.Equal(e.addresses(), []string{"127.0.0.2"}) && ready(e) })
	cancel()
	await(t, "end of the watch", watched)

	e, names, _ = named(t, "127.0.0.1")
	names.set(errors.New("no name server"))
	e.options.ResolveInterval = 10 * time.Millisecond
	go e.Watch(t.Context())
	eventually(t, "lookups", func() bool { return names.count() > 3 })
	names.set(nil, "127.0.0.1")
	eventually(t, "ready", func() bool { return ready(e) })
}

func TestAReplicaThatLeavesEndsWhatItHas(t *testing.T) {
	e, names, hotpaths := named(t, "127.0.0.1", "127.0.0.2")
	names.set(nil, "127.0.0.1")
	e.lookUp(t)
	began, release := hotpaths[0].Block()
	done := make(chan error, 1)
	go func() {
		_, err := e.Embed(t.Context(), request())
		done <- err
	}()
	await(t, "the call", began)
	leaves := e.pool.replicas()[0]
	names.set(nil, "127.0.0.2")
	e.lookUp(t)
	for range 10 {
		if _, err := e.Embed(t.Context(), request()); err != nil {
			t.Fatal(err)
		}
	}
	if calls := callsTo(hotpaths[0]); calls != 1 {
		t.Errorf("%d calls to the one that leaves", calls)
	}
	if !leaves.connected() {
		t.Error("closed with a call running")
	}
	close(release)
	if err := <-done; err != nil {
		t.Errorf("the call that ran: %v", err)
	}
	eventually(t, "it is closed", func() bool { return leaves.calls.GetState().String() == "SHUTDOWN" })
}

// TestReplicasComeAndGoUnderLoad: between the choice of a replica and the call, it may leave.
func TestReplicasComeAndGoUnderLoad(t *testing.T) {
	e, names, _ := named(t, "127.0.0.1", "127.0.0.2")
	names.set(nil, "127.0.0.1", "127.0.0.2")
	e.lookUp(t)
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for ctx.Err() == nil {
				if _, err := e.Embed(t.Context(), request()); err != nil {
					t.Errorf("%v: %v", err, errors.Unwrap(err))
					return
				}
			}
		})
	}
	for range 100 {
		names.set(nil, "127.0.0.1")
		e.lookUp(t)
		names.set(nil, "127.0.0.1", "127.0.0.2")
		e.lookUp(t)
	}
	cancel()
	callers.Wait()
	e.pool.mu.Lock()
	defer e.pool.mu.Unlock()
	if len(e.pool.leaving) != 0 {
		t.Errorf("%d that left are not closed", len(e.pool.leaving))
	}
}

func TestCloseEndsThoseThatLeaveToo(t *testing.T) {
	e, names, hotpaths := named(t, "127.0.0.1", "127.0.0.2")
	names.set(nil, "127.0.0.1")
	e.lookUp(t)
	began, _ := hotpaths[0].Block()
	done := make(chan error, 1)
	go func() {
		_, err := e.Embed(t.Context(), request())
		done <- err
	}()
	await(t, "the call", began)
	names.set(nil, "127.0.0.2")
	e.lookUp(t)
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("the call succeeded")
	}
}

func TestWhenReplicasLeaveNoMoreAreEjectedThanMayBe(t *testing.T) {
	e, names, _ := named(t, "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
	names.set(nil, "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
	e.lookUp(t)
	for _, r := range e.pool.replicas()[:2] {
		e.pool.eject(r, errHangs)
	}
	names.set(nil, "127.0.0.1", "127.0.0.2")
	if e.lookUp(t); !slices.Equal(ejected(e), []bool{false, true}) {
		t.Errorf("of two: %v", ejected(e))
	}
	names.set(nil, "127.0.0.2")
	if e.lookUp(t); !slices.Equal(ejected(e), []bool{false}) {
		t.Errorf("of one: %v", ejected(e))
	}
}

func TestAddresses(t *testing.T) {
	for _, address := range []string{"dns:///a.example:1", "dns:a.example:1"} {
		if n, err := parseName(address); err != nil || n.host != "a.example" || n.port != "1" {
			t.Errorf("%s: %+v, %v", address, n, err)
		}
	}
	for _, address := range []string{"dns:", "dns:///a", "dns:///:1", "dns:///a:", "dns:///a:http", "dns:///a:65536", "dns://server/a:1", "a", "a:http", "unix:"} {
		if _, err := New(Options{Addresses: []string{address}}); err == nil || !strings.Contains(err.Error(), address) {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range []string{"a:1", "[::1]:1", "unix:/dns:a"} {
		if n, err := parseName(address); n != nil || err != nil {
			t.Errorf("%s: %+v, %v", address, n, err)
		}
	}
}

func TestAnAddressThatIsThereTwiceIsOneReplica(t *testing.T) {
	hotpath := testkit.StartHotpath(t, "127.0.0.1:0")
	e := newEngine(t, patience, time.Now, hotpath.Address, hotpath.Address)
	if got := len(e.pool.replicas()); got != 1 {
		t.Errorf("%d replicas", got)
	}
}
