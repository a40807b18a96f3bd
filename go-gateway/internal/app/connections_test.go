package app

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// patience bounds waits that end long before on any machine.
const patience = 10 * time.Second

func TestSiteOf(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.7:1234":           "192.0.2.7",
		"[::ffff:192.0.2.7]:1234":  "192.0.2.7",
		"[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::/64",
		"[2001:db8:1:2:ffff::]:2":  "2001:db8:1:2::/64",
		"[2001:db8:1:3::]:1":       "2001:db8:1:3::/64",
		"[fe80::1%eth0]:1":         "fe80::/64",
		"@":                        "@", // a socket without a name
	} {
		if got := siteOf(named(address)); got != want {
			t.Errorf("%s: got %q, want %q", address, got, want)
		}
	}
}

// named is an address by its text.
type named string

func (named) Network() string  { return "test" }
func (n named) String() string { return string(n) }

// peers is a listener whose connections come from chosen addresses.
type peers struct {
	connections chan *peer
}

type peer struct {
	net.Conn
	address string
	closed  atomic.Bool
}

func (p *peer) RemoteAddr() net.Addr { return named(p.address) }
func (p *peer) Close() error         { p.closed.Store(true); return nil }

func (p peers) Accept() (net.Conn, error) {
	next, ok := <-p.connections
	if !ok {
		return nil, net.ErrClosed
	}
	return next, nil
}
func (peers) Close() error   { return nil }
func (peers) Addr() net.Addr { return named("listener") }

func TestNoAddressTakesAllConnections(t *testing.T) {
	const most = 80
	refused := 0
	from := peers{make(chan *peer, 1000)}
	listener := share(from, connectionPool(most), func() { refused++ })
	connect := func(address string, times int) (let []net.Conn) {
		sent := make([]*peer, times)
		for i := range sent {
			sent[i] = &peer{address: address}
			from.connections <- sent[i]
		}
		last := &peer{address: "[2001:db8::1]:1"} // which gets in, and marks the end
		from.connections <- last
		for {
			connection, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if connection.(*held).Conn == last {
				break
			}
			let = append(let, connection)
		}
		for _, one := range sent[len(let):] {
			if !one.closed.Load() {
				t.Error("a connection that there is no room for is left open")
			}
		}
		return let
	}
	flood := connect("192.0.2.1:1", 200)
	if len(flood) < most/2 || len(flood) > most*7/8 || refused != 200-len(flood) {
		t.Fatalf("one address has %d of %d, and %d were refused", len(flood), most, refused)
	}
	if other := connect("192.0.2.2:1", 2); len(other) != 2 {
		t.Errorf("another address got %d connections of 2", len(other))
	}
	flood[0].Close()
	flood[0].Close() // counts once
	for _, one := range flood[1:] {
		one.Close()
	}
	if again := connect("192.0.2.1:2", 200); len(again) < most/2 || len(again) > len(flood) {
		t.Errorf("after %d were closed, %d are let in", len(flood), len(again))
	}
}

func TestAConnectionWithoutRoomIsClosedAtOnce(t *testing.T) {
	opened, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	refused := make(chan struct{}, 1)
	listener := share(opened, connectionPool(1), func() { refused <- struct{}{} })
	accepted := make(chan net.Conn, 2)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- connection
		}
	}()
	dial := func() net.Conn {
		connection, err := net.Dial("tcp", opened.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { connection.Close() })
		if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		return connection
	}
	dial()
	first := <-accepted
	if _, err := dial().Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the second gets %v", err)
	}
	<-refused
	first.Close()
	dial()
	(<-accepted).Close()
}
