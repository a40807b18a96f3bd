package quota_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/quota/conformance"
)

func TestMemoryConforms(t *testing.T) {
	conformance.Run(t, func(_ testing.TB, now func() time.Time) quota.Store {
		return quota.NewMemory(now, conformance.Lease)
	})
}

func TestMemoryFollowsTheActiveTenants(t *testing.T) {
	clock := conformance.NewClock()
	store := quota.NewMemory(clock.Now, conformance.Lease)
	for i := range 100_000 {
		clock.Advance(time.Second)
		request := quota.Request{Tenant: fmt.Sprint("tenant-", i), Counted: true, Runs: true, MaxTokens: 1}
		request.Limits[quota.Tenant] = quota.Limits{RequestsPerMinute: 20, TokensPerMinute: 100, ConcurrentRequests: 1}
		if _, err := store.Reserve(context.Background(), request, nil); err != nil {
			t.Fatal(err)
		}
	}
	if kept := store.Accounts(); kept > 2048 {
		t.Errorf("%d accounts are kept, though 60 tenants were active in the last minute", kept)
	}
}

var all = quota.Limits{
	RequestsPerMinute: 1_000_000, RequestBurst: 100_000_000, TokensPerMinute: 100_000_000, TokensPerDay: 1_000_000_000_000, ConcurrentRequests: 1000, ConcurrentStreams: 1000,
}

// BenchmarkDecisionInMemory is reserve and settle with the one limit that every plan has, and with all there are.
func BenchmarkDecisionInMemory(b *testing.B) {
	for name, limits := range map[string][quota.Scopes]quota.Limits{"one": {{RequestsPerMinute: all.RequestsPerMinute, RequestBurst: all.RequestBurst}}, "all": {all, all}} {
		b.Run(name, func(b *testing.B) {
			limiter := quota.NewLimiter(quota.NewMemory(time.Now, conformance.Lease), time.Now)
			request := quota.Request{
				ID: "id", Tenant: "acme", Key: "key", Counted: true, Runs: true, MinTokens: 1, MaxTokens: 100, Limits: limits,
			}
			b.ReportAllocs()
			for b.Loop() {
				held, decision, err := limiter.Reserve(context.Background(), request)
				if held == nil {
					b.Fatal(decision.Refusal, err)
				}
				held.Settle(10)
			}
		})
	}
}
