package quota

import (
	"testing"
	"time"
)

// What durable work used while the shared store was away is held by the share, and charged once it is back: once.
func TestAChargeWaitsForTheSharedStore(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	shared := &stalling{Memory: NewMemory(clock, time.Minute)}
	failover := NewFailover(shared, clock, 2, func(bool, error) {})
	failover.find(t.Context())
	limiter := NewLimiter(failover, clock)
	of := Request{ID: "work", Tenant: "acme", Key: "key", Runs: true, Limits: [Scopes]Limits{{TokensPerDay: 1000}}}
	day := func(of *Failover) int64 {
		found, err := of.Look(t.Context(), Request{Tenant: "acme", Key: "key", Limits: [Scopes]Limits{{TokensPerDay: 1000}}})
		if err != nil {
			t.Fatal(err)
		}
		return found.States[Tenant].DayTokens
	}
	pending := limiter.Hold(of)
	use := func(id string, tokens int64) {
		request := of
		request.ID, request.Pending, request.MinTokens, request.MaxTokens = id, pending, 1, 100
		held, _, err := limiter.Reserve(t.Context(), request)
		if err != nil || held == nil {
			t.Fatal(held, err)
		}
		held.Settle(tokens)
		held.Settle(tokens) // which does nothing
	}
	use("a", 30)
	if used := day(failover); used != 30 {
		t.Errorf("%d are held", used)
	}
	shared.away = true
	use("b", 40)
	if used := day(failover); used < 70 || !failover.Away() {
		t.Errorf("%d are held in the share", used)
	}
	charge := []Charge{{ID: "work", Tenant: "acme", Day: DayOf(now), DayTokens: 70}}
	if err := limiter.Charge(t.Context(), charge); err == nil {
		t.Error("charged while it is away")
	}
	limiter.renew()
	shared.away = false
	failover.find(t.Context())
	for range 2 {
		if err := limiter.Charge(t.Context(), charge); err != nil {
			t.Fatal(err)
		}
	}
	limiter.Settled(charge)
	limiter.renew() // of what is charged already
	if used := day(failover); used != 70 {
		t.Errorf("%d are charged and held", used)
	}
	pending.Release()
	if used := day(failover); used != 70 || len(limiter.pending) != 0 || len(shared.charged) != 0 {
		t.Errorf("%d were charged; %d are pending, %v remembered", used, len(limiter.pending), shared.charged)
	}
	// What another process did is remembered until nobody tells of it.
	charge[0].ID = "other"
	for range 2 {
		if err := limiter.Charge(t.Context(), charge); err != nil {
			t.Fatal(err)
		}
	}
	if used := day(failover); used != 140 || len(shared.charged) != 1 {
		t.Errorf("%d were charged, %v remembered", used, shared.charged)
	}
	if limiter.Settled(charge); len(shared.charged) != 0 {
		t.Errorf("%v are remembered", shared.charged)
	}
	// Of two that hold for the same charge, the one that is lost does not end the other one's renewals.
	first, second := limiter.Hold(of), limiter.Hold(of)
	first.Release()
	if limiter.pending["work"] != second {
		t.Errorf("%v", limiter.pending)
	}
}
