package redisstore

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/quota/conformance"
)

func TestRedisConforms(t *testing.T) {
	s := startServer(t)
	conformance.Run(t, func(t testing.TB, now func() time.Time) quota.Store { return &prompt{Store: open(t, s, now)} })
}

// The same requests get the same answers, to the last µs and token.
func TestRedisAndMemoryDecideAlike(t *testing.T) {
	s := startServer(t)
	random := rand.New(rand.NewPCG(1, 2))
	for range 10 {
		clock := conformance.NewClock()
		redis, memory := &prompt{Store: open(t, s, clock.Now)}, quota.NewMemory(clock.Now, conformance.Lease)
		plan := func() quota.Limits {
			pick := func(most int64) int64 { return max(0, random.Int64N(most*3/2)-most/2) } // 0 is none
			return quota.Limits{
				RequestsPerMinute: pick(100), RequestBurst: pick(20), TokensPerMinute: pick(99_999_999), TokensPerDay: pick(3_000_000_000),
				ConcurrentRequests: pick(5), ConcurrentStreams: pick(3),
			}
		}
		limits := [quota.Scopes]quota.Limits{plan(), plan()}
		if limits[quota.Tenant].RequestsPerMinute == 0 {
			limits[quota.Tenant].RequestsPerMinute = 10
		}
		var held []quota.Reservation
		for id := range 150 {
			switch random.IntN(4) {
			case 0:
				clock.Advance(time.Duration(random.Int64N(int64(15 * time.Second))).Truncate(time.Microsecond))
			case 1:
				if len(held) > 0 {
					i := random.IntN(len(held))
					used := random.Int64N(held[i].Granted + 1)
					redis.Settle(held[i], used)
					memory.Settle(held[i], used)
					held = slices.Delete(held, i, i+1)
				}
			default:
				asked := request(id)
				asked.Limits, asked.Stream = limits, random.IntN(2) == 0
				asked.MaxTokens = 1 + random.Int64N(30_000_000)
				got, err := redis.Reserve(context.Background(), asked, nil)
				want, _ := memory.Reserve(context.Background(), asked, nil)
				want.Now = want.Now.Truncate(time.Microsecond)
				if err != nil || !got.Now.Equal(want.Now) || got.States != want.States || got.Reservation != want.Reservation {
					t.Fatalf("by %+v\n%v\nRedis  %+v\nmemory %+v", limits, err, got, want)
				}
				if (got.Refusal == nil) != (want.Refusal == nil) || (got.Refusal != nil && *got.Refusal != *want.Refusal) {
					t.Fatalf("Redis refuses for %+v, memory for %+v", got.Refusal, want.Refusal)
				}
				if got.Refusal == nil {
					held = append(held, got.Reservation)
				}
			}
		}
	}
}

func TestEveryKeyHasTheTenantsTagAndALife(t *testing.T) {
	s := startServer(t)
	store := open(t, s, nil)
	if _, err := store.Reserve(context.Background(), request(1), nil); err != nil {
		t.Fatal(err)
	}
	keys, err := s.do(store, "KEYS", "*").AsStrSlice()
	if err != nil || len(keys) != 4 {
		t.Fatalf("got %q, %v", keys, err)
	}
	for _, key := range keys {
		if !strings.HasPrefix(key, "quota:{acme}:interactive") {
			t.Errorf("got %q", key)
		}
		lasts, err := s.do(store, "PTTL", key).AsInt64()
		// What is used of the day is known until it ends.
		untilMidnight := 24*time.Hour.Milliseconds() - time.Now().UnixMilli()%(24*time.Hour.Milliseconds())
		if err != nil || lasts < untilMidnight-1000 || lasts > untilMidnight+1000 && lasts > 2*time.Minute.Milliseconds()+1 {
			t.Errorf("%s lasts %d ms, %v", key, lasts, err)
		}
	}
}

func TestARedisThatForgetsIsWarnedOf(t *testing.T) {
	for policy, warned := range map[string]bool{"noeviction": false, "allkeys-lru": true} {
		s := startServer(t, "--maxmemory-policy", policy)
		var log strings.Builder
		store := newStore(t, s.url(), nil, &log)
		if err := store.Ping(context.Background()); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(log.String(), "must be noeviction") != warned {
			t.Errorf("%s: the log is %q", policy, log.String())
		}
	}
}

func TestAnURLIsNotQuoted(t *testing.T) {
	if _, err := New(Options{URL: "http://:secret@host"}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

// watched is a Failover that has found its Redis.
func watched(t *testing.T, s *server) (*quota.Failover, *Store) {
	t.Helper()
	store := newStore(t, s.url(), nil, nil)
	failover := quota.NewFailover(store, time.Now, 2, func(bool, error) {})
	run(t, failover.Watch)
	eventually(t, "Redis being found", func() bool { return !failover.Away() })
	return failover, store
}

func reserve(t *testing.T, store quota.Store, asked quota.Request) (quota.Decision, time.Duration) {
	t.Helper()
	start := time.Now()
	decision, err := store.Reserve(context.Background(), asked, nil)
	if err != nil {
		t.Fatal(err)
	}
	return decision, time.Since(start)
}

func TestWhileRedisHangsTheLocalShareDecides(t *testing.T) {
	s := startServer(t)
	failover, store := watched(t, s)
	asked := request(1)
	// Requests are enough for some that Redis lets in too late for anybody to have waited.
	asked.Limits = [quota.Scopes]quota.Limits{{RequestsPerMinute: 60, ConcurrentRequests: 5, TokensPerDay: 1000}}
	before := reserveShared(t, failover, asked)
	s.signal(syscall.SIGSTOP)
	first, took := reserve(t, failover, asked)
	for range 2 { // a busy machine may leave a test alone for longer than Redis is waited for, but not three times
		if took <= 150*time.Millisecond {
			break
		}
		failover.Settle(first.Reservation, 0)
		s.signal(syscall.SIGCONT)
		eventually(t, "Redis being back", func() bool { return !failover.Away() })
		s.signal(syscall.SIGSTOP)
		first, took = reserve(t, failover, asked)
	}
	if !first.Reservation.Degraded || first.Refusal != nil || took > 150*time.Millisecond {
		t.Fatalf("after %v: %+v", took, first)
	}
	asked.ID = "second"
	start := time.Now()
	const looks = 20
	for range looks {
		if _, err := failover.Look(context.Background(), asked); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took > looks*50*time.Millisecond/2 {
		t.Errorf("it was asked again each time: %v", took)
	}
	reserve(t, failover, asked)
	asked.ID = "third"
	// Two of five are one gateway's.
	if third, _ := reserve(t, failover, asked); third.Refusal == nil || third.Refusal.Kind != quota.ConcurrentRequests || third.Refusal.Limit != 2 {
		t.Errorf("got %+v", third)
	}
	large := asked
	large.MinTokens, large.MaxTokens = 600, 600
	if refusal := mustRefuse(t, failover, large); refusal.TooLarge || refusal.RetryAfter != time.Minute {
		t.Errorf("got %+v", refusal)
	}
	failover.Settle(first.Reservation, 10)
	failover.Settle(before.Reservation, 10) // which Redis hears of later
	s.signal(syscall.SIGCONT)
	eventually(t, "Redis being back", func() bool { return !failover.Away() })
	settled(t, store)
	found, err := store.Look(context.Background(), asked)
	if used := found.States[quota.Tenant].DayTokens; err != nil || used%100 != 20 {
		t.Errorf("got %+v, %v", found, err) // 100 more for each decision that nobody waited for and that was taken too
	}
	asked.ID = "after"
	reserveShared(t, failover, asked)
}

// reserveShared reserves in Redis. A busy machine may take longer for that than Redis is waited for.
func reserveShared(t *testing.T, failover *quota.Failover, asked quota.Request) quota.Decision {
	t.Helper()
	var decision quota.Decision
	eventually(t, "a decision by Redis", func() bool {
		decision, _ = reserve(t, failover, asked)
		if decision.Reservation.Degraded && decision.Refusal == nil {
			failover.Settle(decision.Reservation, 0)
		}
		return !decision.Reservation.Degraded
	})
	return decision
}

func mustRefuse(t *testing.T, store quota.Store, asked quota.Request) quota.Refusal {
	t.Helper()
	decision, _ := reserve(t, store, asked)
	if decision.Refusal == nil {
		t.Fatalf("granted %+v", decision)
	}
	return *decision.Refusal
}

func TestARedisThatStartsAnewIsFound(t *testing.T) {
	s := startServer(t)
	failover, store := watched(t, s)
	held := reserveShared(t, failover, request(1))
	s.stop()
	if during, _ := reserve(t, failover, request(2)); !during.Reservation.Degraded {
		t.Error("not degraded")
	}
	failover.Settle(held.Reservation, 10)
	s.start() // without scripts and keys
	eventually(t, "Redis being back", func() bool { return !failover.Away() })
	settled(t, store)
	if after := reserveShared(t, failover, request(3)); after.Refusal != nil {
		t.Errorf("got %+v", after)
	}
}

func TestAGatewayMayStartBeforeItsRedis(t *testing.T) {
	s := startServer(t)
	s.stop()
	store := newStore(t, s.url(), nil, nil)
	failover := quota.NewFailover(store, time.Now, 2, func(bool, error) {})
	run(t, failover.Watch)
	if decision, _ := reserve(t, failover, request(1)); !decision.Reservation.Degraded {
		t.Error("not degraded")
	}
	s.start()
	eventually(t, "Redis being found", func() bool { return !failover.Away() })
}

// Two gateways and an empty bucket: together they let in what the limit says, and no more.
func TestTwoGatewaysShareALimit(t *testing.T) {
	s := startServer(t)
	clock := conformance.NewClock()
	one, two := open(t, s, clock.Now), open(t, s, clock.Now)
	asked := request(1)
	asked.Limits = [quota.Scopes]quota.Limits{{RequestsPerMinute: 600, RequestBurst: 1}}
	admitted := 0
	for range 60_000 / 10 {
		clock.Advance(10 * time.Millisecond)
		for _, store := range []*Store{one, two} {
			if decision, _ := reserve(t, store, asked); decision.Refusal == nil {
				admitted++
			}
		}
	}
	if admitted < 599 || admitted > 600 {
		t.Errorf("%d of 600 were let in", admitted)
	}
}

func BenchmarkDecisionInRedis(b *testing.B) {
	s := startServer(b)
	store := open(b, s, nil)
	run(b, store.Watch)
	limiter := quota.NewLimiter(store, time.Now)
	var times []time.Duration
	b.ReportAllocs()
	for id := 0; b.Loop(); id++ {
		start := time.Now()
		held, decision, err := limiter.Reserve(context.Background(), request(id))
		times = append(times, time.Since(start))
		if held == nil {
			b.Fatal(decision.Refusal, err)
		}
		held.Settle(10)
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
}

// What a request held is given back before it asks again, also where Redis has forgotten the scripts.
func TestScriptsThatAreUnknownAreCalledInTheirOrder(t *testing.T) {
	s := startServer(t)
	store := open(t, s, nil)
	asked := request(1)
	asked.Limits = [quota.Scopes]quota.Limits{{ConcurrentRequests: 1}}
	first, _ := reserve(t, store, asked)
	for i := range 3 {
		if err := s.do(store, "SCRIPT", "FLUSH").Error(); err != nil {
			t.Fatal(err)
		}
		if i == 1 { // the second one is known
			if _, err := store.Look(context.Background(), asked); err != nil {
				t.Fatal(err)
			}
		}
		next, err := store.Reserve(context.Background(), asked, &first.Reservation)
		if err != nil || next.Refusal != nil {
			t.Fatalf("got %+v, %v", next, err)
		}
		first = next
	}
}

// A batch whose answer got lost is sent again, and counts once.
func TestWhatMayHaveBeenSettledIsNotSettledTwice(t *testing.T) {
	s := startServer(t)
	store := open(t, s, conformance.NewClock().Now)
	asked := request(1)
	asked.Limits = [quota.Scopes]quota.Limits{{TokensPerMinute: 1000, TokensPerDay: 1000}}
	decision, _ := reserve(t, store, asked)
	asked.ID = "another"
	reserve(t, store, asked)
	client, _ := store.current()
	settlement := store.settlement(&decision.Reservation, 10)
	if left := callAll(context.Background(), client, []job{settlement}); len(left) != 0 {
		t.Fatal("not settled")
	}
	before, _ := store.Look(context.Background(), asked)
	lost, cancel := context.WithCancel(context.Background())
	cancel()
	left := callAll(lost, client, []job{settlement})
	if len(left) != 1 || left[0].args[2] != "0" {
		t.Fatalf("left are %+v", left)
	}
	callAll(context.Background(), client, left)
	after, err := store.Look(context.Background(), asked)
	if used := before.States[quota.Tenant]; err != nil || before.States != after.States || used.DayTokens != 110 || used.Tokens != 6_600_000 {
		t.Errorf("%+v became %+v, %v", before, after, err)
	}
}

// What does not fit is forgotten, and told.
func TestTheQueueIsBounded(t *testing.T) {
	dropped := 0
	store, err := New(Options{URL: "redis://127.0.0.1:1", Lease: conformance.Lease, Dropped: func() { dropped++ }})
	if err != nil {
		t.Fatal(err)
	}
	for range queueLength + 3 {
		store.Settle(quota.Reservation{Request: request(1)}, 0)
	}
	if dropped != 3 {
		t.Errorf("%d were dropped", dropped)
	}
}

// What is told twice counts once, also where Redis has forgotten the script; and of a day that is over nothing is kept.
func TestAChargeCountsOnce(t *testing.T) {
	s := startServer(t)
	clock := conformance.NewClock()
	store := open(t, s, clock.Now)
	asked := request(1)
	day := quota.DayOf(clock.Now())
	charges := []quota.Charge{
		{ID: "one", Tenant: "acme", Requests: 2_000_000, Tokens: 3_000_000, Day: day, DayTokens: 40},
		{ID: "one", Tenant: "acme", Key: "key", Requests: 5_000_000},
		{ID: "late", Tenant: "acme", Tokens: 1_000_000, Day: day - 1, DayTokens: 500},
	}
	want := []quota.State{
		{Requests: 2_000_000, Tokens: 3_000_000, DayTokens: 40}, {Requests: 5_000_000}, {Requests: 2_000_000, Tokens: 4_000_000, DayTokens: 40},
	}
	states, err := store.Charge(context.Background(), charges)
	if err != nil || !slices.Equal(states, want) {
		t.Errorf("got %+v, %v", states, err)
	}
	if err := s.do(store, "SCRIPT", "FLUSH").Error(); err != nil {
		t.Fatal(err)
	}
	want[0] = want[2]
	if states, err = store.Charge(context.Background(), charges); err != nil || !slices.Equal(states, want) {
		t.Errorf("then %+v, %v", states, err)
	}
	found, err := store.Look(context.Background(), asked)
	if err != nil || found.States != [quota.Scopes]quota.State{want[2], want[1]} {
		t.Errorf("then %+v, %v", found.States, err)
	}
	lost, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := store.Charge(lost, charges); err == nil {
		t.Error("no error")
	}
}
