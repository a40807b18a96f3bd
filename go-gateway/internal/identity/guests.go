package identity

import "sync"

// maxGuests bounds the tenants that tokens alone name: each has metrics, and numbers in memory, of its own.
const maxGuests = 4096

// guests are tenants that are in no tenants file, since the gateway began, and the plan that their latest token named. It
// is safe for concurrent use.
type guests struct {
	lock  sync.RWMutex
	plans map[string]string // by tenant
}

// admit reports whether a tenant is among as many as there may be.
func (g *guests) admit(name, plan string) bool {
	if known, is := g.plan(name); is && known == plan {
		return true
	}
	g.lock.Lock()
	defer g.lock.Unlock()
	if g.plans == nil {
		g.plans = map[string]string{}
	}
	if _, known := g.plans[name]; !known && len(g.plans) >= maxGuests {
		return false
	}
	g.plans[name] = plan
	return true
}

// plan is that of a tenant which was admitted.
func (g *guests) plan(name string) (plan string, admitted bool) {
	g.lock.RLock()
	defer g.lock.RUnlock()
	plan, admitted = g.plans[name]
	return plan, admitted
}
