package quota

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// counting is a store that counts what it is asked.
type counting struct {
	*Memory
	asked, settled, renewed int
}

func (c *counting) Reserve(ctx context.Context, request Request, instead *Reservation) (Decision, error) {
	c.asked++
	return c.Memory.Reserve(ctx, request, instead)
}

func (c *counting) Settle(reservation Reservation, used int64) {
	c.settled++
	c.Memory.Settle(reservation, used)
}

func (c *counting) Renew(reservations []Reservation) {
	c.renewed += len(reservations)
	c.Memory.Renew(reservations)
}

func newCounting(now *time.Time) (*Limiter, *counting) {
	clock := func() time.Time { return *now }
	store := &counting{Memory: NewMemory(clock, time.Minute)}
	return NewLimiter(store, clock), store
}

func ask(t *testing.T, l *Limiter, request Request) (*Held, Decision) {
	t.Helper()
	held, decision, err := l.Reserve(context.Background(), request)
	if err != nil {
		t.Fatal(err)
	}
	return held, decision
}

func counted(limits Limits) Request {
	return Request{ID: "id", Tenant: "acme", Key: "key", Counted: true, Runs: true, Limits: [Scopes]Limits{limits}}
}

func TestWhoIsKnownToBeOverItsRateIsRefusedWithoutAQuestion(t *testing.T) {
	now := start
	l, store := newCounting(&now)
	request := counted(Limits{RequestsPerMinute: 60, RequestBurst: 2})
	for range 2 {
		ask(t, l, request)
	}
	for range 5 {
		if _, decision := ask(t, l, request); decision.Refusal == nil || decision.Refusal.RetryAfter != time.Second {
			t.Fatalf("got %+v", decision)
		}
	}
	if store.asked != 2 {
		t.Errorf("asked %d times", store.asked)
	}
	now = now.Add(time.Second - time.Microsecond)
	if decision, refused := l.Refused(request); !refused || decision.Refusal.RetryAfter != time.Microsecond {
		t.Errorf("1 µs early: %+v", decision.Refusal)
	}
	now = now.Add(time.Microsecond)
	if held, _ := ask(t, l, request); held == nil {
		t.Error("refused at the moment that was promised")
	}
	other := request
	other.Key = "another key" // it knows nothing of the first one's, but the store does
	if _, decision := ask(t, l, other); decision.Refusal == nil {
		t.Error("the tenant's rate is not its keys' together")
	}
	request.Limits[Tenant].RequestBurst = 5 // another plan
	if held, _ := ask(t, l, request); held == nil {
		t.Error("a larger plan does not count")
	}
}

func TestAReservationIsSettledOnce(t *testing.T) {
	now := start
	l, store := newCounting(&now)
	request := counted(Limits{TokensPerDay: 100})
	request.MinTokens, request.MaxTokens = 1, 60
	held, _ := ask(t, l, request)
	l.renew()
	held.Settle(10)
	held.Settle(60)
	if _, _, err := l.Replace(context.Background(), held, request); err != nil {
		t.Fatal(err)
	}
	if store.settled != 1 || store.renewed != 1 {
		t.Errorf("settled %d times, renewed %d times", store.settled, store.renewed)
	}
	found, _ := store.Look(context.Background(), request)
	if found.States[Tenant].DayTokens != 70 || found.States[Tenant].Running != 1 { // of the one instead of it
		t.Errorf("got %+v", found.States)
	}
}

func TestTheWaitForAPlaceIsMeasured(t *testing.T) {
	now := start
	l, _ := newCounting(&now)
	request := counted(Limits{ConcurrentRequests: 2})
	for i := range 2 {
		request.ID = fmt.Sprint("first-", i)
		held, _ := ask(t, l, request)
		now = now.Add(4 * time.Second)
		held.Settle(0)
	}
	for i := range 2 {
		request.ID = fmt.Sprint("second-", i)
		ask(t, l, request)
	}
	if _, decision := ask(t, l, request); decision.Refusal == nil || decision.Refusal.RetryAfter != 2*time.Second {
		t.Errorf("got %+v", decision.Refusal)
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	now := start
	l, _ := newCounting(&now)
	request := counted(Limits{RequestsPerMinute: 1})
	for range 3 * maxRefusals {
		ask(t, l, request)
	}
	report, err := l.Report(context.Background(), request)
	if err != nil || len(report.Refusals) != maxRefusals || report.Binding == nil || report.Binding.Kind != RequestsPerMinute {
		t.Errorf("got %d refusals, %+v, %v", len(report.Refusals), report.Binding, err)
	}
	for i := range maxRecent + 100 {
		request.Key = fmt.Sprint("key-", i)
		ask(t, l, request)
	}
	if len(l.recent) > maxRecent {
		t.Errorf("%d keys are remembered", len(l.recent))
	}
}

func TestADaysTokensAreForgottenAtMidnight(t *testing.T) {
	now := start
	l, _ := newCounting(&now)
	request := counted(Limits{TokensPerDay: 100})
	request.MinTokens, request.MaxTokens = 60, 60
	ask(t, l, request)
	now = now.Add(24 * time.Hour)
	if decision, err := l.Latest(t.Context(), request); err != nil || decision.States[Tenant].DayTokens != 0 {
		t.Errorf("got %+v", decision)
	}
}

func TestRefusalsOfAllKeysOfATenant(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	limiter := NewLimiter(NewMemory(func() time.Time { return now }, time.Minute), func() time.Time { return now })
	ask := func(tenant, key string, class Class) {
		request := Request{
			Tenant: tenant, Key: key, Class: class, Counted: true,
			Limits: [Scopes]Limits{Tenant: {RequestsPerMinute: 1}},
		}
		if _, _, err := limiter.Reserve(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Millisecond)
	}
	keys := func(tenant, key string) (keys []string) {
		report, err := limiter.Report(t.Context(), Request{Tenant: tenant, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		for _, refusal := range report.Refusals {
			keys = append(keys, refusal.Key)
		}
		return keys
	}
	for _, key := range []string{"a", "b", "a", "c", "b"} { // the first one is let in
		ask("acme", key, Interactive)
	}
	ask("globex", "d", Interactive)
	ask("acme", "e", Batch)
	ask("acme", "e", Batch)
	for _, c := range []struct {
		tenant, key string
		want        []string
	}{
		{"acme", "", []string{"b", "c", "a", "b"}}, {"acme", "b", []string{"b", "b"}}, {"globex", "", nil}, {"acme", "d", nil},
	} {
		if got := keys(c.tenant, c.key); !slices.Equal(got, c.want) {
			t.Errorf("%s %q: got %q, want %q", c.tenant, c.key, got, c.want)
		}
	}
	for range 20 {
		ask("acme", "a", Interactive)
		ask("acme", "b", Interactive)
	}
	if got := keys("acme", ""); len(got) != 16 || got[0] != "b" || got[1] != "a" {
		t.Errorf("got %q", got)
	}
}
