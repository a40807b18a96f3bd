package app

import (
	"errors"
	"net"
	"testing"

	"golang.org/x/net/netutil"
)

// ipv6 skips where the system has no [::1].
func ipv6(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("LOUD: this system has no [::1]: that both loopbacks are listened on is NOT tested")
	}
	_ = listener.Close()
}

func localhost(t *testing.T) (listener net.Listener, port string) {
	t.Helper()
	listener, err := listen("localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	_, port, err = net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return listener, port
}

func TestLocalhostIsBothLoopbacks(t *testing.T) {
	ipv6(t)
	listener, port := localhost(t)
	for _, host := range []string{"127.0.0.1", "::1", "127.0.0.1"} {
		client, err := net.Dial("tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Fatal(err)
		}
		server, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if server.RemoteAddr().String() != client.LocalAddr().String() {
			t.Errorf("by %s came %s", client.LocalAddr(), server.RemoteAddr())
		}
		_ = client.Close()
		_ = server.Close()
	}
}

func TestBothLoopbacksShareALimit(t *testing.T) {
	ipv6(t)
	listener, port := localhost(t)
	limited := netutil.LimitListener(listener, 1)
	for _, host := range []string{"::1", "127.0.0.1"} {
		client, err := net.Dial("tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
	}
	first, err := limited.Accept()
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan net.Conn)
	go func() {
		connection, _ := limited.Accept()
		second <- connection
	}()
	select {
	case <-second:
		t.Fatal("two connections at once")
	default:
	}
	_ = first.Close()
	_ = (<-second).Close()
}

func TestAPortThatAnotherHasOnEitherLoopbackIsRefused(t *testing.T) {
	ipv6(t)
	taken, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	if listener, err := listen("localhost:" + port); err == nil {
		_ = listener.Close()
		t.Error("it listens where half of its clients reach another")
	}
}

func TestClosingEndsAccept(t *testing.T) {
	listener, _ := localhost(t)
	ended := make(chan error)
	go func() {
		_, err := listener.Accept()
		ended <- err
	}()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
