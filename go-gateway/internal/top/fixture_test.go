package top

import (
	"fmt"
	"math"

	"triptych.dev/gateway/internal/adminapi"
)

const began = 1_800_000_000.0

// evening is a gateway with some things to see: two tenants near their limits, one hot path in trouble.
func evening() *Picture {
	p := &Picture{Address: "127.0.0.1:9466"}
	for second := range 60 {
		p.take(eveningAt(float64(second)))
	}
	return p
}

// eveningAt is that gateway after so many seconds.
func eveningAt(second float64) *adminapi.Overview {
	wave := 1 + 0.4*math.Sin(second/4) + 0.2*math.Sin(second/1.7)
	// A total that grows by so much a second, in waves.
	total := func(perSecond float64) float64 {
		phase := perSecond / 7
		return math.Round(perSecond * (second + 600 - 1.6*math.Cos(second/4+phase) - 0.34*math.Cos(second/1.7+phase)))
	}
	requests, tokens := 0.0, 0.0
	use := func(name, plan string, perSecond, tokensPerSecond float64, running, streams int64, binding *adminapi.LimitRow, refusals map[string]float64) adminapi.TenantUse {
		of := adminapi.TenantUse{
			Tenant: name, Plan: plan, Requests: total(perSecond), Tokens: total(tokensPerSecond), Running: running, Streams: streams,
			Binding: binding, Refusals: map[string]float64{},
		}
		for limit, rate := range refusals {
			of.Refusals[limit] = total(rate)
		}
		requests, tokens = requests+of.Requests, tokens+of.Tokens
		return of
	}
	tenants := []adminapi.TenantUse{
		use("acme", "gold", 41, 12_400, 14, 6, limit("tokens_per_minute", "interactive", 823_000, 1_000_000), nil),
		use("globex", "silver", 18, 3_100, 8, 8, limit("concurrent_streams", "interactive", 8, 8), map[string]float64{"concurrent_streams": 2.4}),
		use("nightly-import", "silver", 9, 41_000, 4, 0, limit("tokens_per_day", "batch", 212_000_000, 500_000_000), nil),
		use("initech", "free", 6, 90, 0, 0, limit("requests_per_minute", "interactive", 60, 60), map[string]float64{"requests_per_minute": 5.1, "tokens_per_minute": 0.2}),
		use("hooli.search", "gold", 2.5, 610, 1, 0, limit("tokens_per_minute", "interactive", 31_000, 1_000_000), nil),
		use("stark", "free", 0.5, 12, 0, 0, limit("requests_per_minute", "interactive", 2, 60), nil),
		use("umbrella", "unlimited", 0.2, 150, 1, 1, nil, nil),
		use("wayne", "free", 0, 0, 0, 0, limit("requests_per_minute", "interactive", 0, 60), nil),
	}
	return &adminapi.Overview{
		Object: "overview", Time: began + second, Started: began - 273_600, Version: "v0.4.0", Revision: "be80be2",
		Ready: true, Stale: map[string]float64{}, Goroutines: 412,
		Inflight:  adminapi.Share{Used: int64(28 * wave), Max: 64},
		BodyBytes: adminapi.Share{Used: 23 << 20, Max: 256 << 20},
		Connections: []adminapi.Connection{
			{Listener: "http", Share: adminapi.Share{Used: 187, Max: 4096}}, {Listener: "metrics", Share: adminapi.Share{Used: 1, Max: 128}},
		},
		Requests: requests, Tokens: tokens,
		Refusals: map[string]float64{"RATE_LIMITED": total(5.3), "CONCURRENCY_LIMITED": total(2.4), "QUEUE_FULL": total(0.3)},
		Tenants:  tenants, MoreTenants: 31,
		Replicas: []adminapi.Replica{
			{Address: "10.0.4.11:50051", Connected: true, Calls: 17, Tokens: 5_200, Load: 8_340, Models: []adminapi.Model{
				{ID: "all-minilm-l6-v2", State: "ready", Proven: true, Queued: 4_100, Running: 1_840, TokensPerSecond: 21_400, Waiting: 21, Rows: 2, MaxRows: 2},
				{ID: "assistant-135m", State: "ready", Proven: true, Queued: 900, Running: 1_500, TokensPerSecond: 412, Waiting: 3, Rows: 12, MaxRows: 16},
				{ID: "moderation-minilm", State: "ready", Proven: true, TokensPerSecond: 20_900, MaxRows: 2},
			}},
			{Address: "10.0.4.12:50051", Connected: true, Ejected: true, Load: 0, Models: []adminapi.Model{
				{ID: "all-minilm-l6-v2", State: "ready", Proven: true, TokensPerSecond: 20_700},
				{ID: "assistant-135m", State: "failed", Cause: "INTERNAL: the session died; loaded again in 4 s"},
				{ID: "moderation-minilm", State: "ready", Proven: true, TokensPerSecond: 20_100},
			}},
		},
	}
}

func limit(kind, class string, used, most int64) *adminapi.LimitRow {
	row := &adminapi.LimitRow{Limit: kind, Scope: "tenant", Class: class, Used: used, Max: most, Remaining: most - used}
	if kind != "concurrent_streams" && kind != "concurrent_requests" {
		row.Reset = new(60 * float64(used) / float64(most))
		if kind == "tokens_per_day" {
			row.Reset = new(57_541.0)
		}
	}
	return row
}

// globex is a tenant's limits.
func globex() *adminapi.Limits {
	binding := *limit("concurrent_streams", "interactive", 8, 8)
	binding.Binding = true
	return &adminapi.Limits{
		Object: "list", Tenant: "globex", Plan: "silver",
		Data: []adminapi.LimitRow{
			*limit("requests_per_minute", "interactive", 412, 1200), *limit("tokens_per_minute", "interactive", 61_000, 200_000),
			*limit("tokens_per_day", "interactive", 31_400_000, 50_000_000), *limit("concurrent_requests", "interactive", 8, 16), binding,
			*limit("tokens_per_request", "interactive", 0, 8192), *limit("requests_per_minute", "batch", 0, 60),
		},
		Refusals: []adminapi.RefusalRow{
			{Created: began + 58.4, Key: "k7m2q9xd", Limit: "concurrent_streams", Scope: "tenant", Class: "interactive", Max: 8, RetryAfter: new(0.34)},
			{Created: began + 57.9, Key: "k7m2q9xd", Limit: "concurrent_streams", Scope: "tenant", Class: "interactive", Max: 8, RetryAfter: new(0.34)},
			{Created: began + 12, Key: "b3t8w1zc", Limit: "tokens_per_request", Scope: "tenant", Class: "interactive", Max: 8192, Tokens: new(int64(9120))},
		},
	}
}

// crowd is a gateway of many hot paths and tenants.
func crowd() *Picture {
	p := &Picture{Address: "gateway.internal:9466"}
	for second := range 2 {
		now := eveningAt(float64(second))
		now.Tenants, now.Replicas = nil, nil
		for i := range adminapi.MaxOverviewTenants {
			now.Tenants = append(now.Tenants, adminapi.TenantUse{
				Tenant: fmt.Sprintf("tenant-%03d-of-a-rather-long-name-indeed", i), Plan: "a-plan-of-a-long-name",
				Requests: float64((second + 1) * (1000 - i)), Tokens: 1e12 * float64(second+1), Running: int64(i),
				Binding: limit("concurrent_requests", "batch", int64(i), 50),
			})
		}
		for i := range 30 {
			now.Replicas = append(now.Replicas, adminapi.Replica{
				Address: fmt.Sprintf("10.1.0.%d:50051", i), Connected: i != 17, Load: int64(i) * 1_000_000,
				Models: []adminapi.Model{{ID: "all-minilm-l6-v2", State: "ready", Proven: true, Queued: 7}},
			})
		}
		p.take(now)
	}
	return p
}
