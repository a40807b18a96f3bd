package identity

import "sync"

// maxGuests bounds the tenants that tokens alone name: each has metrics, and numbers in memory, of its own.
const maxGuests = 4096

// guests are tenants that are in no tenants file, since the gateway began. It is safe for concurrent use.
type guests struct {
	lock  sync.RWMutex
	names map[string]struct{}
}

// admit reports whether a tenant is among as many as there may be.
func (g *guests) admit(name string) bool {
	g.lock.RLock()
	_, known := g.names[name]
	g.lock.RUnlock()
	if known {
		return true
	}
	g.lock.Lock()
	defer g.lock.Unlock()
	if g.names == nil {
		g.names = map[string]struct{}{}
	}
	if len(g.names) < maxGuests {
		g.names[name] = struct{}{}
	}
	_, known = g.names[name]
	return known
}
