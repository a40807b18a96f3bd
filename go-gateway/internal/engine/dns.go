package engine

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	"triptych.dev/gateway/internal/config"
)

const (
	lookupTimeout = 5 * time.Second
	// A connection is lost for each replica of a name that goes away, and again for each that cannot be reached.
	minLookupPause = time.Second
)

// Resolver looks up the addresses of a host, as net.Resolver does.
type Resolver interface {
	LookupHost(ctx context.Context, host string) ([]string, error)
}

// name is a DNS name, of which each address is a replica.
type name struct {
	written, host, port string

	again  chan struct{} // to look it up before its time
	failed bool          // the last time
}

// parseName reads "dns:///host:port"; nil if an address is of one replica.
func parseName(address string) (*name, error) {
	host, port, err := config.HotpathName(address)
	if err != nil || host == "" {
		return nil, err
	}
	return &name{written: address, host: host, port: port, again: make(chan struct{}, 1)}, nil
}

// lookAgain has all names looked up soon.
func (p *pool) lookAgain() {
	for _, n := range p.names {
		select {
		case n.again <- struct{}{}:
		default: // it will be
		}
	}
}

// watchName keeps the replicas of a name current until ctx ends.
func (p *pool) watchName(ctx context.Context, n *name) {
	interval := time.NewTicker(p.options.ResolveInterval)
	defer interval.Stop()
	for {
		p.lookUp(ctx, n)
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(minLookupPause, p.options.ResolveInterval)):
		}
		select {
		case <-ctx.Done():
			return
		case <-interval.C:
		case <-n.again:
		}
	}
}

// lookUp takes a name's addresses. What was known holds if that fails: the replicas need no name server to serve.
func (p *pool) lookUp(ctx context.Context, n *name) {
	limited, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	hosts, err := p.options.Resolver.LookupHost(limited, n.host)
	if ctx.Err() != nil {
		return
	}
	if err == nil && len(hosts) == 0 {
		err = fmt.Errorf("%s has no address", n.host)
	}
	if err != nil {
		if !n.failed {
			p.options.Logger.Warn("a name of hot paths cannot be resolved", "name", n.written, "cause", err.Error())
		}
		n.failed = true
		return
	}
	if n.failed {
		p.options.Logger.Info("a name of hot paths is resolved again", "name", n.written)
	}
	n.failed = false
	slices.Sort(hosts) // servers give them in any order
	addresses := make([]string, len(hosts))
	for i, host := range hosts {
		addresses[i] = net.JoinHostPort(host, n.port)
	}
	p.set(n.written, addresses)
}
