package engine

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
)

// maxReplicas bounds what one name can make the gateway connect to.
const maxReplicas = 256

// pool is the replicas that there are now. Those of addresses in the settings stay; those of names come and go.
type pool struct {
	options *Options
	names   []*name

	list atomic.Pointer[[]*replica] // those that get calls; read-only once here

	mu      sync.Mutex
	sources []source
	leaving map[*replica]bool // those that no longer do, and have some to finish
	closed  bool

	watching context.Context // nil before watch
	watchers sync.WaitGroup
}

// source is an address of the settings, and those that it stands for.
type source struct {
	written   string
	addresses []string
}

func newPool(options *Options) (*pool, error) {
	p := &pool{options: options, leaving: map[*replica]bool{}}
	p.list.Store(new([]*replica))
	for _, address := range options.Addresses {
		name, err := parseName(address)
		if err != nil {
			return nil, err
		}
		known := source{written: address}
		if name != nil {
			p.names = append(p.names, name)
		} else {
			known.addresses = []string{address}
		}
		p.sources = append(p.sources, known)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.update(); err != nil {
		return nil, errors.Join(err, p.closeAll())
	}
	return p, nil
}

// replicas are those that get calls.
func (p *pool) replicas() []*replica { return *p.list.Load() }

// watch keeps what is known of the replicas fresh, and the replicas of names current, until ctx ends.
func (p *pool) watch(ctx context.Context) {
	p.mu.Lock()
	p.watching = ctx
	for _, r := range p.replicas() {
		p.startWatching(r)
	}
	p.mu.Unlock()
	for _, n := range p.names {
		p.watchers.Go(func() { p.watchName(ctx, n) })
	}
	p.watchers.Wait()
}

// startWatching keeps what is known of a replica fresh. The caller holds the lock.
func (p *pool) startWatching(r *replica) {
	ctx, stop := context.WithCancel(p.watching)
	r.stop = stop
	p.watchers.Go(func() { r.watch(ctx) })
}

// set says which addresses one of the settings stands for now.
func (p *pool) set(written string, addresses []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	for i := range p.sources {
		if p.sources[i].written == written {
			p.sources[i].addresses = addresses
		}
	}
	if err := p.update(); err != nil {
		p.options.Logger.Error("a replica cannot be taken", "name", written, "cause", err.Error())
	}
}

// update makes the replicas those of all addresses, each once. The caller holds the lock.
func (p *pool) update() (err error) {
	before := p.replicas()
	var next []*replica
	for _, source := range p.sources {
		for _, address := range source.addresses {
			has := func(r *replica) bool { return r.address == address }
			if len(next) == maxReplicas || slices.ContainsFunc(next, has) {
				continue
			}
			if i := slices.IndexFunc(before, has); i >= 0 {
				next = append(next, before[i])
				continue
			}
			r, failure := newReplica(address, p)
			if failure != nil {
				err = errors.Join(err, failure)
				continue
			}
			next = append(next, r)
			if p.watching != nil {
				p.options.Logger.Info("a replica is new", "replica", address)
				p.startWatching(r)
			}
		}
	}
	p.list.Store(&next)
	for _, r := range before {
		if !slices.Contains(next, r) {
			p.retire(r)
		}
	}
	p.readmitSome()
	return err
}

// retire gives a replica no more calls, and closes its connections once those that it has are over. The caller holds the
// lock.
func (p *pool) retire(r *replica) {
	if r.stop != nil {
		r.stop()
	}
	p.leaving[r] = true
	idle := r.work.leave()
	calls, _ := r.work.outstanding()
	p.options.Logger.Info("a replica leaves", "replica", r.address, "calls", calls)
	if idle {
		p.drop(r)
	}
}

// gone ends a replica whose last call is over.
func (p *pool) gone(r *replica) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(r)
}

// drop ends a replica that has left. The caller holds the lock.
func (p *pool) drop(r *replica) {
	if p.leaving[r] {
		delete(p.leaving, r)
		_ = r.close() // of a connection that nobody uses
		p.options.Logger.Info("a replica is gone", "replica", r.address)
	}
}

// close ends all connections and the calls on them.
func (p *pool) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return p.closeAll()
}

// closeAll ends all connections. The caller holds the lock.
func (p *pool) closeAll() error {
	var faults []error
	for _, r := range p.replicas() {
		faults = append(faults, r.close())
	}
	for r := range p.leaving {
		faults = append(faults, r.close())
	}
	clear(p.leaving)
	return errors.Join(faults...)
}
