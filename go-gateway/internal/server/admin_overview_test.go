package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"triptych.dev/gateway/internal/adminapi"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/testkit"
)

// overview asks for one.
func (g *gateway) overview() (found adminapi.Overview) {
	g.Helper()
	got := g.get(adminapi.OverviewPath)
	if err := json.Unmarshal(got.body, &found); err != nil || got.status != http.StatusOK {
		g.Fatalf("got %d %s, %v", got.status, got.body, err)
	}
	return found
}

func TestTheOverviewTellsWhatRunsAndWhatWasCounted(t *testing.T) {
	g, admin := startAdmin(t)
	for range 21 {
		g.do("GET", "/v1/models", "", "Authorization", "Bearer "+g.keys["tiny"])
	}
	g.post("/v1/embeddings", oneText)
	began, release := g.hotpath.Block()
	done := make(chan reply)
	go func() { done <- g.post("/v1/embeddings", oneText) }()
	g.await("a request that runs", began)
	found := admin.overview()
	close(release)
	<-done

	if found.Object != "overview" || !found.Ready || found.Draining || found.Degraded || found.Version == "" || found.Time <= found.Started {
		t.Errorf("got %+v", found)
	}
	if found.Inflight != (adminapi.Share{Used: 1, Max: 1}) || found.BodyBytes.Used == 0 || found.Requests != 22 || found.Tokens == 0 {
		t.Errorf("got %+v", found)
	}
	if found.Refusals["RATE_LIMITED"] != 1 || len(found.Connections) != 1 || found.Connections[0].Max != 7 || found.Stale["keys"] != 2 || len(found.Stale) != 1 {
		t.Errorf("got %+v", found)
	}
	tenants := map[string]adminapi.TenantUse{}
	for _, use := range found.Tenants {
		tenants[use.Tenant] = use
	}
	if acme := tenants["acme"]; acme.Plan != "generous" || acme.Running != 1 || acme.Requests != 1 || acme.Tokens != found.Tokens || len(acme.Refusals) != 0 {
		t.Errorf("got %+v", acme)
	}
	if tiny := tenants["tiny"]; tiny.Refusals["requests_per_minute"] != 1 || tiny.Binding == nil || tiny.Binding.Used != 20 || tiny.Binding.Max != 20 {
		t.Errorf("got %+v", tiny)
	}
	if found.MoreTenants != 0 || len(found.Tenants) != 2 || found.Tenants[0].Tenant != "tiny" {
		t.Errorf("got %+v and %d more", found.Tenants, found.MoreTenants)
	}
	if len(found.Replicas) != 1 || found.Replicas[0].Address != g.hotpath.Address || found.Replicas[0].Calls != 1 || len(found.Replicas[0].Models) == 0 ||
		found.Replicas[0].Models[0].State != "ready" {
		t.Errorf("got %+v", found.Replicas)
	}
	if got := admin.get(adminapi.OverviewPath + "?tenant=acme"); got.status != http.StatusBadRequest {
		t.Errorf("with a parameter: %d %s", got.status, got.body)
	}
}

// lookedAt counts how often a store is asked what is used.
type lookedAt struct {
	quota.Store
	looks atomic.Int64
}

func (l *lookedAt) Look(ctx context.Context, request quota.Request) (quota.Decision, error) {
	l.looks.Add(1)
	return l.Store.Look(ctx, request)
}

func TestAnOverviewIsBoundedAndSharedByAllWhoLook(t *testing.T) {
	const many = 1_000
	limits := quota.Limits{RequestsPerMinute: 60}
	clock := time.Unix(1_800_000_000, 0)
	g, admin := startAdmin(t, func(o *AdminOptions) {
		o.Now = func() time.Time { return clock }
		o.Tenant = func(name string) (identity.Tenant, bool) {
			return identity.Tenant{Name: name, Plan: identity.Plan{Name: "both", Tenant: identity.ClassLimits{limits, limits}}}, true
		}
	})
	now := func() time.Time { return clock }
	asked := &lookedAt{Store: quota.NewMemory(now, time.Minute)}
	g.Inference.Limiter = quota.NewLimiter(asked, now)
	for i := range many {
		tenant := fmt.Sprintf("tenant-%d", i)
		for range i {
			g.Metrics.Tenants.Ended(tenant)
		}
		g.Metrics.Tenants.Charged(tenant, testkit.ModelName, 1)
	}
	found := admin.overview()
	if len(found.Tenants) != adminapi.MaxOverviewTenants || found.MoreTenants != many-adminapi.MaxOverviewTenants || found.Requests != many*(many-1)/2 {
		t.Errorf("%d tenants and %d more of %v requests", len(found.Tenants), found.MoreTenants, found.Requests)
	}
	if found.Tenants[0].Tenant != "tenant-999" || found.Tenants[adminapi.MaxOverviewLimits-1].Binding == nil || found.Tenants[adminapi.MaxOverviewLimits].Binding != nil {
		t.Errorf("the first is %+v", found.Tenants[0])
	}
	if got := asked.looks.Load(); got != adminapi.MaxOverviewLimits*int64(quota.Classes) {
		t.Errorf("the store was asked %d times", got)
	}

	clock = clock.Add(overviewEvery - 1)
	for range 5 {
		g.Metrics.Tenants.Ended("tenant-3")
	}
	if again := admin.overview(); again.Time != found.Time || asked.looks.Load() != adminapi.MaxOverviewLimits*int64(quota.Classes) {
		t.Errorf("taken anew within %v", overviewEvery)
	}
	clock = clock.Add(1)
	if later := admin.overview(); later.Tenants[0].Tenant != "tenant-3" || later.Tenants[0].Requests != 8 {
		t.Errorf("ranked by what came since: %+v", later.Tenants[0])
	}
}

func BenchmarkOverview(b *testing.B) {
	const many = 10_000
	g := startGateway(b)
	for i := range many {
		tenant := fmt.Sprintf("tenant-%d", i)
		g.Metrics.Tenants.Ended(tenant)
		g.Metrics.Tenants.Charged(tenant, testkit.ModelName, 1)
	}
	none := func(string) (identity.Tenant, bool) { return identity.Tenant{}, false }
	a := &admin{Server: g.Server, api: g.Server, AdminOptions: AdminOptions{
		Tenant: none, Guest: none, Started: time.Now(), Now: time.Now,
		Stale:       func(time.Time) map[string]time.Duration { return nil },
		Connections: func() []adminapi.Connection { return nil },
	}}
	for b.Loop() {
		if _, _, err := a.takeOverview(b.Context(), time.Now(), nil); err != nil {
			b.Fatal(err)
		}
	}
}
