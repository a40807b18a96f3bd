package app

import (
	"errors"
	"net"
	"sync"
	"syscall"
)

// listen opens an address. The host "localhost" is both loopback addresses, as clients ask whichever their resolver names
// first: 127.0.0.1 and, where the system has it, [::1].
func listen(address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host != "localhost" {
		return net.Listen("tcp", address)
	}
	first, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return nil, err
	}
	_, port, _ = net.SplitHostPort(first.Addr().String()) // port 0 became a free one
	second, err := net.Listen("tcp6", net.JoinHostPort("::1", port))
	if errors.Is(err, syscall.EADDRINUSE) {
		_ = first.Close()
		return nil, err // whoever has it would be asked instead of this
	}
	if err != nil {
		return first, nil // no IPv6 here
	}
	return join(first, second), nil
}

// joined is two listeners as one, so that they share a limit. Its address is the first one's.
type joined struct {
	net.Listener
	accepted chan accepted
	closed   chan struct{}
	close    func() error
}

type accepted struct {
	connection net.Conn
	err        error
}

func join(first, second net.Listener) net.Listener {
	j := &joined{Listener: first, accepted: make(chan accepted), closed: make(chan struct{})}
	j.close = sync.OnceValue(func() error {
		close(j.closed)
		return errors.Join(first.Close(), second.Close())
	})
	go j.pass(first)
	go j.pass(second)
	return j
}

// pass hands on what one listener accepts, until both are closed.
func (j *joined) pass(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		select {
		case j.accepted <- accepted{connection, err}:
		case <-j.closed:
			if connection != nil {
				_ = connection.Close()
			}
			return
		}
	}
}

// Accept returns the next connection of either.
func (j *joined) Accept() (net.Conn, error) {
	select {
	case next := <-j.accepted:
		return next.connection, next.err
	case <-j.closed:
		return nil, net.ErrClosed
	}
}

// Close closes both.
func (j *joined) Close() error { return j.close() }
