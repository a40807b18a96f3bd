package app

import (
	"net"
	"net/netip"
	"sync"

	"triptych.dev/gateway/internal/admission"
)

const (
	// oneConnection is what each address is guaranteed.
	oneConnection = 1
	// siteBits of an address of IPv6 are one customer's: whoever has one has the 2^64 others too.
	siteBits = 64
)

// shared is a listener that has so many connections at once, which those that connect share by address: no address can
// keep the others out. What it has no room for is closed at once, rather than left to wait for a reply that never comes.
type shared struct {
	net.Listener
	pool    *admission.Pool
	refused func()
}

// connectionPool is room for so many connections.
func connectionPool(most int) *admission.Pool { return admission.NewPool(int64(most), oneConnection) }

func share(listener net.Listener, pool *admission.Pool, refused func()) net.Listener {
	return &shared{listener, pool, refused}
}

// Accept returns the next connection that there is room for.
func (s *shared) Accept() (net.Conn, error) {
	for {
		connection, err := s.Listener.Accept()
		if err != nil {
			return nil, err
		}
		site := siteOf(connection.RemoteAddr())
		if s.pool.TryAcquire(site, 1) {
			return &held{connection, sync.OnceFunc(func() { s.pool.Release(site, 1) })}, nil
		}
		_ = connection.Close()
		s.refused()
	}
}

// siteOf names those who share what one address gets.
func siteOf(address net.Addr) string {
	parsed, err := netip.ParseAddrPort(address.String())
	if err != nil {
		return address.String()
	}
	ip := parsed.Addr().Unmap().WithZone("")
	if ip.Is6() {
		site, _ := ip.Prefix(siteBits) // of so many bits there is always one
		return site.String()
	}
	return ip.String()
}

// held is a connection that gives its place back.
type held struct {
	net.Conn
	release func()
}

// Close closes it, once or more often.
func (h *held) Close() error {
	defer h.release()
	return h.Conn.Close()
}
