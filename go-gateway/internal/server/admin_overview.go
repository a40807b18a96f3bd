package server

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"triptych.dev/gateway/internal/adminapi"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/inference"
	"triptych.dev/gateway/internal/openai"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/telemetry"
)

// overviewEvery is how old an overview may be: however many look, metrics and limits are read that often at most.
const overviewEvery = 500 * time.Millisecond

// overviews takes overviews. It keeps the latest one, and what it ranks tenants of the next one by.
type overviews struct {
	mu       sync.Mutex
	latest   *adminapi.Overview
	taken    time.Time
	requests map[string]float64 // by tenant, as of the latest
}

// overview serves GET /admin/v1/overview.
func (a *admin) overview(ex *exchange) (any, error) {
	if _, err := query(ex); err != nil {
		return nil, err
	}
	o := &a.overviews
	o.mu.Lock()
	defer o.mu.Unlock()
	if now := a.Now(); o.latest == nil || now.Sub(o.taken) >= overviewEvery {
		taken, requests, err := a.takeOverview(ex.request.Context(), now, o.requests)
		if err != nil {
			return nil, err
		}
		o.latest, o.taken, o.requests = taken, now, requests
	}
	return o.latest, nil
}

// takeOverview reads what is counted anyway. Tenants are ranked by what came since there were so many requests of each.
func (a *admin) takeOverview(
	ctx context.Context, now time.Time, before map[string]float64,
) (*adminapi.Overview, map[string]float64, error) {
	overview := &adminapi.Overview{
		Object: "overview", Time: unixSeconds(now), Started: unixSeconds(a.Started),
		Degraded: a.LimitsDegraded != nil && a.LimitsDegraded(), Stale: map[string]float64{},
		Inflight:    adminapi.Share{Used: a.api.slots.Used(), Max: a.api.slots.Total()},
		BodyBytes:   adminapi.Share{Used: a.api.bodies.Used(), Max: a.api.bodies.Total()},
		Connections: a.Connections(), Goroutines: runtime.NumGoroutine(),
		Refusals: a.Metrics.ByReason(),
	}
	overview.Version, overview.Revision = telemetry.Build()
	for source, stale := range a.Stale(now) {
		if stale > 0 {
			overview.Stale[source] = stale.Seconds()
		}
	}
	ready, statuses := a.Engine.Ready()
	overview.Draining = a.api.draining.Load()
	overview.Ready, overview.Replicas = ready && !overview.Draining, renderReplicas(statuses)

	counts, running := a.Metrics.ByTenant(), a.api.slots.Held()
	for tenant := range running {
		if _, counted := counts[tenant]; !counted { // its first request has not ended
			counts[tenant] = &telemetry.TenantCounts{}
		}
	}
	requests := make(map[string]float64, len(counts))
	for tenant, of := range counts {
		requests[tenant] = of.Requests
	}
	overview.Requests, overview.Tokens = a.Metrics.Tenants.Totals()
	busiest := rank(counts, func(tenant string) float64 {
		return counts[tenant].Requests - before[tenant] + float64(running[tenant])
	})
	listed := busiest[:min(len(busiest), adminapi.MaxOverviewTenants)]
	overview.MoreTenants = len(busiest) - len(listed)
	overview.Tenants = make([]adminapi.TenantUse, len(listed))
	for i, name := range listed {
		of := counts[name]
		overview.Tenants[i] = adminapi.TenantUse{
			Tenant: name, Requests: of.Requests, Tokens: of.Tokens, Running: running[name], Streams: of.Streams, Refusals: of.Limited,
		}
		if of.Limited == nil {
			overview.Tenants[i].Refusals = map[string]float64{}
		}
	}
	return overview, requests, a.addLimits(ctx, overview.Tenants)
}

// rank orders tenants by how busy they are, and then by tokens and name.
func rank(counts map[string]*telemetry.TenantCounts, busy func(string) float64) []string {
	type ranked struct {
		name         string
		busy, tokens float64
	}
	order := make([]ranked, 0, len(counts))
	for name, of := range counts {
		order = append(order, ranked{name, busy(name), of.Tokens})
	}
	slices.SortFunc(order, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(b.busy, a.busy), cmp.Compare(b.tokens, a.tokens), cmp.Compare(a.name, b.name))
	})
	names := make([]string, len(order))
	for i, one := range order {
		names[i] = one.name
	}
	return names
}

// addLimits adds plans, and of the first tenants the limits that bind. These are asked for all at once, so that a slow
// Redis delays the whole by one answer.
func (a *admin) addLimits(ctx context.Context, tenants []adminapi.TenantUse) error {
	var asked sync.WaitGroup
	failures := make([]error, len(tenants))
	for i := range tenants {
		tenant, known := a.Tenant(tenants[i].Tenant)
		if !known {
			tenant, known = a.Guest(tenants[i].Tenant)
		}
		tenants[i].Plan = tenant.Plan.Name
		if !known || i >= adminapi.MaxOverviewLimits {
			continue
		}
		asked.Go(func() { tenants[i].Binding, failures[i] = a.binding(ctx, tenant) })
	}
	asked.Wait()
	for _, failure := range failures {
		if failure != nil {
			return failure
		}
	}
	return nil
}

// binding is the tenant's own limit that is the nearest to refusing, of all classes; nil if there is none.
func (a *admin) binding(ctx context.Context, tenant identity.Tenant) (*adminapi.LimitRow, error) {
	of := identity.Principal{Tenant: tenant.Name, Plan: tenant.Plan}
	of.Plan.Key = identity.ClassLimits{}
	var nearest *adminapi.LimitRow
	for class := range quota.Classes {
		use, err := a.Inference.Use(ctx, inference.Call{Principal: of, Priority: class})
		if err != nil {
			return nil, fault.InternalError(err)
		}
		if use.Binding == nil {
			continue
		}
		if row := openai.RenderLimit(class, *use.Binding, true); nearest == nil || left(row) < left(*nearest) {
			nearest = &row
		}
	}
	return nearest, nil
}

// left is which part of a limit is.
func left(row adminapi.LimitRow) float64 { return float64(row.Remaining) / float64(row.Max) }

// unixSeconds is a time as the admin API tells it.
func unixSeconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
