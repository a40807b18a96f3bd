package conformance

import (
	"testing"
	"time"

	"triptych.dev/gateway/internal/quota"
)

// Run runs all tests on stores that are opened for them.
func Run(t *testing.T, of Open) {
	for name, test := range map[string]func(*subjects){
		"a rate of requests on each side of the boundary": requestRate,
		"tokens that are not used come back":              unusedTokens,
		"a reservation is cut to what is left":            cutReservation,
		"what has healed is not given back again":         healedTokens,
		"nor what heals in place of another's":            healedForAnother,
		"a wait for tokens is true":                       tokenWait,
		"a day's tokens until midnight":                   dayTokens,
		"what runs at once":                               concurrency,
		"leases expire":                                   expiry,
		"leases that are renewed":                         renewal,
		"a settlement after the lease":                    lateSettlement,
		"all limits or none":                              allOrNone,
		"instead of another":                              instead,
		"each for itself":                                 separate,
		"another plan":                                    planChange,
		"more than the plan ever admits":                  tooLarge,
		"more than was granted":                           overrun,
		"requests that are not counted":                   uncounted,
		"what is charged later is held until then":        pendingCharge,
		"what is held expires with its gateway":           expiredHold,
		"a charge counts once":                            chargedOnce,
		"a charge of another day":                         chargeOfADay,
	} {
		t.Run(name, func(t *testing.T) { test(open(t, of)) })
	}
	t.Run("nothing is oversubscribed or leaked", func(t *testing.T) { properties(t, of) })
	t.Run("no over-admission when requests race", func(t *testing.T) { race(t, of) })
	t.Run("nor when all else does", func(t *testing.T) { raceOfAll(t, of, false) })
	t.Run("nor while leases expire", func(t *testing.T) { raceOfAll(t, of, true) })
}

func requestRate(s *subjects) {
	for _, limits := range []quota.Limits{
		{RequestsPerMinute: 20}, {RequestsPerMinute: 7}, {RequestsPerMinute: 1}, {RequestsPerMinute: 600, RequestBurst: 5},
		{RequestsPerMinute: 60, RequestBurst: 120},
	} {
		burst := max(limits.RequestBurst, 0)
		if burst == 0 {
			burst = limits.RequestsPerMinute
		}
		s.clock.Advance(time.Hour)
		for i := range burst {
			decision := s.ask(s.request(limits))
			status, _ := quota.Status(quota.RequestsPerMinute, quota.Tenant, limits, decision.States[quota.Tenant], decision.Now)
			if decision.Refusal != nil || status.Remaining != burst-1-i {
				s.Fatalf("%+v, request %d: %+v, %+v", limits, i+1, decision.Refusal, status)
			}
		}
		wait := s.refuse(s.request(limits), quota.RequestsPerMinute, quota.Tenant)
		if again := s.refuse(s.request(limits), quota.RequestsPerMinute, quota.Tenant); again != wait {
			s.Errorf("a refusal cost something: %v after %v", again, wait)
		}
		s.clock.Advance(wait - time.Microsecond)
		if left := s.refuse(s.request(limits), quota.RequestsPerMinute, quota.Tenant); left != time.Microsecond {
			s.Errorf("1 µs early: %v", left)
		}
		s.clock.Advance(time.Microsecond)
		s.take(s.request(limits))
		s.refuse(s.request(limits), quota.RequestsPerMinute, quota.Tenant)
	}
}

var aThousand = quota.Limits{TokensPerMinute: 1000}

const (
	perToken = 60 * time.Millisecond // of aThousand
	µs       = int64(time.Microsecond)
)

func unusedTokens(s *subjects) {
	first := s.take(s.tokens(aThousand, 1, 600))
	second := s.take(s.tokens(aThousand, 1, 400))
	s.Settle(first, 100)
	if state := s.state(first.Request); state.Tokens != 500*int64(perToken)/µs {
		s.Errorf("got %+v", state)
	}
	s.Settle(second, 400)
	s.Settle(s.take(s.tokens(aThousand, 500, 500)), 0)
	s.clock.Advance(time.Minute)
	if state := s.state(first.Request); state.Tokens != 0 {
		s.Errorf("got %+v", state)
	}
}

func cutReservation(s *subjects) {
	s.take(s.tokens(aThousand, 1, 900))
	if cut := s.take(s.tokens(aThousand, 1, 500)); cut.Granted != 100 {
		s.Errorf("granted %d of 100", cut.Granted)
	}
	s.refuse(s.tokens(aThousand, 1, 500), quota.TokensPerMinute, quota.Tenant)
}

func healedTokens(s *subjects) {
	slow := s.take(s.tokens(aThousand, 1000, 1000))
	s.clock.Advance(time.Minute - time.Millisecond)
	s.take(s.tokens(aThousand, 1, 999)) // by now nearly all of it is back
	s.Settle(slow, 0)
	// Had it been given back once more, twice the bucket could be used in a moment.
	if granted := s.take(s.tokens(aThousand, 1, 1000)).Granted; granted > 1 {
		s.Errorf("%d tokens more", granted)
	}
}

func healedForAnother(s *subjects) {
	first, second := s.take(s.tokens(aThousand, 500, 500)), s.take(s.tokens(aThousand, 500, 500))
	s.clock.Advance(time.Second)
	s.Settle(first, 0)
	s.clock.Advance(29_900 * time.Millisecond)
	s.take(s.tokens(aThousand, 998, 998)) // the bucket is nearly full
	s.clock.Advance(100 * time.Millisecond)
	s.Settle(second, 0) // which healed, since the first one's part came back and needed no time to
	if granted := s.take(s.tokens(aThousand, 1, 1000)).Granted; granted > 4 {
		s.Errorf("%d tokens more", granted)
	}
}

func tokenWait(s *subjects) {
	s.take(s.tokens(aThousand, 1, 950))
	wait := s.refuse(s.tokens(aThousand, 51, 51), quota.TokensPerMinute, quota.Tenant)
	if wait != perToken {
		s.Errorf("wait %v", wait)
	}
	s.clock.Advance(wait - time.Microsecond)
	s.refuse(s.tokens(aThousand, 51, 51), quota.TokensPerMinute, quota.Tenant)
	s.clock.Advance(time.Microsecond)
	s.take(s.tokens(aThousand, 51, 51))
	// Nothing is left. What may take up to 70 is sure to be let in when there are as many.
	wait = s.refuse(s.tokens(aThousand, 10, 70), quota.TokensPerMinute, quota.Tenant)
	s.clock.Advance(wait)
	if got := s.take(s.tokens(aThousand, 10, 70)); got.Granted != 70 {
		s.Errorf("granted %d after %v", got.Granted, wait)
	}
}

func dayTokens(s *subjects) {
	limits := quota.Limits{TokensPerDay: 100}
	first := s.take(s.tokens(limits, 1, 80))
	if cut := s.take(s.tokens(limits, 1, 80)); cut.Granted != 20 {
		s.Errorf("granted %d of 20", cut.Granted)
	}
	s.Settle(first, 30)
	second := s.take(s.tokens(limits, 50, 50))
	if wait := s.refuse(s.tokens(limits, 1, 1), quota.TokensPerDay, quota.Tenant); wait != 12*time.Hour {
		s.Errorf("wait %v", wait)
	}
	s.clock.Advance(12*time.Hour - time.Microsecond)
	s.Renew([]quota.Reservation{second})
	s.take(s.tokens(limits, 1, 20)) // of the one whose lease has expired
	s.refuse(s.tokens(limits, 1, 1), quota.TokensPerDay, quota.Tenant)
	s.clock.Advance(time.Microsecond)
	s.take(s.tokens(limits, 60, 60))
	s.Settle(second, 0) // of another day
	if state := s.state(first.Request); state.DayTokens != 60 {
		s.Errorf("got %+v", state)
	}
}

func concurrency(s *subjects) {
	limits := quota.Limits{ConcurrentRequests: 3, ConcurrentStreams: 1}
	stream := s.request(limits)
	stream.Stream = true
	running := s.take(stream)
	stream.ID = "another"
	s.refuse(stream, quota.ConcurrentStreams, quota.Tenant)
	second := s.take(s.request(limits))
	s.take(s.request(limits))
	s.refuse(s.request(limits), quota.ConcurrentRequests, quota.Tenant)
	look := s.request(limits)
	look.Runs = false
	s.take(look) // which runs nothing
	s.Settle(second, 0)
	s.take(s.request(limits))
	s.refuse(s.request(limits), quota.ConcurrentRequests, quota.Tenant)
	s.Settle(running, 0)
	s.take(stream)
	if state := s.state(stream); state.Running != 3 || state.Streams != 1 {
		s.Errorf("got %+v", state)
	}
}

func expiry(s *subjects) {
	limits := quota.Limits{ConcurrentRequests: 1, TokensPerDay: 100}
	request := s.tokens(limits, 1, 100)
	request.Stream = true
	s.take(request)
	s.clock.Advance(Lease - time.Microsecond)
	s.refuse(s.request(limits), quota.ConcurrentRequests, quota.Tenant)
	s.clock.Advance(time.Microsecond)
	if state := s.state(request); state != (quota.State{}) {
		s.Errorf("got %+v", state)
	}
	s.take(s.tokens(limits, 100, 100))
}

func renewal(s *subjects) {
	limits := quota.Limits{ConcurrentStreams: 2, TokensPerDay: 100}
	request := s.tokens(limits, 1, 60)
	request.Stream = true
	held := s.take(request)
	for range 5 {
		s.clock.Advance(Lease - time.Microsecond)
		s.Renew([]quota.Reservation{held})
	}
	if state := s.state(request); state.Running != 1 || state.Streams != 1 || state.DayTokens != 60 {
		s.Errorf("got %+v", state)
	}
	s.clock.Advance(time.Hour) // it could not be renewed, and goes on running
	s.Renew([]quota.Reservation{held})
	if state := s.state(request); state.Running != 1 || state.Streams != 1 || state.DayTokens != 60 {
		s.Errorf("after an outage: %+v", state)
	}
	s.Settle(held, 10)
	if state := s.state(request); state != (quota.State{DayTokens: 10}) {
		s.Errorf("settled: %+v", state)
	}
}

func lateSettlement(s *subjects) {
	limits := quota.Limits{ConcurrentRequests: 1, TokensPerDay: 100}
	held := s.take(s.tokens(limits, 1, 60))
	s.clock.Advance(Lease)
	s.take(s.request(limits))
	s.Settle(held, 25)
	if state := s.state(held.Request); state.Running != 1 || state.DayTokens != 25 {
		s.Errorf("got %+v", state)
	}
}

func allOrNone(s *subjects) {
	request := s.tokens(quota.Limits{RequestsPerMinute: 100, TokensPerMinute: 1000, TokensPerDay: 1000, ConcurrentRequests: 9}, 1, 10)
	request.Limits[quota.Key] = quota.Limits{RequestsPerMinute: 1}
	s.take(request)
	before := s.state(request)
	request.ID = "another"
	s.refuse(request, quota.RequestsPerMinute, quota.Key)
	if after := s.state(request); after != before {
		s.Errorf("a refusal changed %+v to %+v", before, after)
	}
	request.Key = "another key"
	s.take(request)
	if after := s.state(request); after.Running != 2 || after.DayTokens != 20 {
		s.Errorf("got %+v", after)
	}
}

func instead(s *subjects) {
	limits := quota.Limits{TokensPerMinute: 1000, TokensPerDay: 1000, ConcurrentRequests: 1, RequestsPerMinute: 1}
	first := s.take(s.tokens(limits, 1, 900))
	exact := s.tokens(limits, 950, 950)
	exact.Counted = false
	second := s.askInstead(exact, &first)
	if second.Refusal != nil || second.Reservation.Granted != 950 {
		s.Fatalf("got %+v", second)
	}
	exact.ID, exact.MinTokens, exact.MaxTokens = "third", 1001, 1001
	if third := s.askInstead(exact, &second.Reservation); third.Refusal == nil || !third.Refusal.TooLarge {
		s.Errorf("got %+v", third)
	}
	if state := s.state(exact); state.Running != 0 || state.Tokens != 0 || state.DayTokens != 0 {
		s.Errorf("got %+v", state)
	}
}

func separate(s *subjects) {
	one := s.tokens(quota.Limits{RequestsPerMinute: 1, TokensPerDay: 10, ConcurrentRequests: 1}, 10, 10)
	one.Limits[quota.Key] = one.Limits[quota.Tenant]
	s.take(one)
	batch, tenant := one, one
	batch.Class = quota.Batch
	s.take(batch)
	tenant.Tenant = "globex"
	s.take(tenant)
	s.refuse(one, quota.TokensPerDay, quota.Tenant)
}

func planChange(s *subjects) {
	held := s.take(s.tokens(quota.Limits{TokensPerMinute: 1000, ConcurrentRequests: 1}, 500, 500))
	small := quota.Limits{TokensPerMinute: 100, ConcurrentRequests: 2, TokensPerDay: 50}
	next := s.take(s.tokens(small, 50, 50)) // half of the bucket is used, by whatever plan
	s.refuse(s.tokens(small, 1, 1), quota.TokensPerDay, quota.Tenant)
	s.Settle(held, 0)
	s.Settle(next, 0)
	if state := s.state(next.Request); state != (quota.State{}) {
		s.Errorf("got %+v", state)
	}
}

func tooLarge(s *subjects) {
	limits := quota.Limits{TokensPerMinute: 1000, TokensPerDay: 5000, TokensPerRequest: 300}
	refusal := s.ask(s.tokens(limits, 301, 400)).Refusal
	if refusal == nil || !refusal.TooLarge || refusal.Kind != quota.TokensPerRequest || refusal.Limit != 300 || refusal.Tokens != 301 {
		s.Errorf("got %+v", refusal)
	}
	if got := s.take(s.tokens(limits, 1, 400)); got.Granted != 300 {
		s.Errorf("granted %d", got.Granted)
	}
}

func overrun(s *subjects) {
	limits := quota.Limits{TokensPerMinute: 1000, TokensPerDay: 1000}
	held := s.take(s.tokens(limits, 1, 100))
	s.Settle(held, 300)
	if state := s.state(held.Request); state.DayTokens != 300 || state.Tokens != 300*int64(perToken)/µs {
		s.Errorf("got %+v", state)
	}
}

func uncounted(s *subjects) {
	request := s.tokens(quota.Limits{RequestsPerMinute: 1, TokensPerMinute: 100}, 10, 10)
	request.Counted = false
	for range 10 {
		s.take(request)
	}
	if state := s.state(request); state.Requests != 0 {
		s.Errorf("got %+v", state)
	}
}
