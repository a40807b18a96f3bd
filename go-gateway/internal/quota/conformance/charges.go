package conformance

import (
	"context"
	"time"

	"triptych.dev/gateway/internal/quota"
)

var aDay = quota.Limits{TokensPerDay: 1000, TokensPerMinute: 100_000, ConcurrentRequests: 2}

// charge tells of a charge, and returns what its tenant has used of the day.
func (s *subjects) charge(of quota.Charge) int64 {
	s.Helper()
	of.Tenant = "acme"
	states, err := s.Charge(context.Background(), []quota.Charge{of})
	if err != nil || len(states) != 1 {
		s.Fatalf("%+v, %v", states, err)
	}
	return states[0].DayTokens
}

// hold holds tokens for a charge.
func (s *subjects) hold(id string, tokens int64, over bool) {
	request := s.request(aDay)
	request.ID = id
	s.Hold([]quota.Hold{{Request: request, Day: quota.DayOf(s.clock.Now()), Tokens: tokens, Over: over}})
}

// pending runs a request that is charged later.
func (s *subjects) pending(used int64) {
	s.Helper()
	request := s.tokens(aDay, 1, used+50)
	request.Pending = &quota.Pending{} // a store only looks whether there is one
	s.Settle(s.take(request), used)
}

func (s *subjects) wantDay(tokens int64) {
	s.Helper()
	if state := s.state(s.request(aDay)); state.DayTokens != tokens || state.Running != 0 {
		s.Errorf("%+v, of the day %d were expected", state, tokens)
	}
}

func pendingCharge(s *subjects) {
	s.pending(100)
	s.wantDay(0)
	s.hold("work", 100, false)
	s.hold("work", 250, false)
	s.hold("work", 100, false) // which came late
	s.wantDay(250)
	running := s.take(s.tokens(aDay, 1, 2000))
	if running.Granted != 750 {
		s.Errorf("granted %d", running.Granted)
	}
	s.Settle(running, 0)
	s.clock.Advance(Lease - time.Second)
	s.hold("work", 250, false) // a renewal
	s.clock.Advance(Lease - time.Second)
	s.wantDay(250)
	if day := s.charge(quota.Charge{ID: "work", Day: quota.DayOf(s.clock.Now()), DayTokens: 240}); day != 240 {
		s.Errorf("got %d", day)
	}
	s.hold("work", 250, false) // which came late
	s.hold("work", 250, true)
	s.wantDay(240)
	s.hold("lost", 100, false)
	s.hold("lost", 100, true)
	s.wantDay(240)
}

func expiredHold(s *subjects) {
	s.hold("work", 100, false)
	s.hold("other", 10, false)
	s.clock.Advance(Lease / 2)
	s.hold("other", 20, false)
	s.clock.Advance(Lease / 2)
	s.wantDay(20)
	s.hold("work", 30, false) // it is alive after all
	s.wantDay(50)
	s.clock.Advance(Lease)
	s.wantDay(0)
	if day := s.charge(quota.Charge{ID: "work", Day: quota.DayOf(s.clock.Now()), DayTokens: 30}); day != 30 {
		s.Errorf("got %d", day)
	}
	for range 2 { // what is held takes no place of what runs
		s.take(s.request(aDay))
	}
	s.hold("next", 5, false)
	s.refuse(s.request(aDay), quota.ConcurrentRequests, quota.Tenant)
}

func chargedOnce(s *subjects) {
	one := quota.Charge{ID: "work", Day: quota.DayOf(s.clock.Now()), DayTokens: 70}
	for range 3 {
		if day := s.charge(one); day != 70 {
			s.Errorf("got %d", day)
		}
		s.clock.Advance(2 * time.Hour)
	}
	ofKey := one
	ofKey.Key = "key" // of another account
	if day := s.charge(ofKey); day != 70 {
		s.Errorf("got %d", day)
	}
	one.ID = "more"
	if day := s.charge(one); day != 140 {
		s.Errorf("got %d", day)
	}
	s.wantDay(140)
}

func chargeOfADay(s *subjects) {
	today := quota.DayOf(s.clock.Now())
	s.charge(quota.Charge{ID: "ahead", Day: today + 1, DayTokens: 5}) // by a clock that is ahead
	s.charge(quota.Charge{ID: "past", Day: today - 1, DayTokens: 7})
	s.wantDay(5)
	s.clock.Advance(12 * time.Hour)
	s.charge(quota.Charge{ID: "late", Day: today, DayTokens: 9})
	s.wantDay(0)
	s.charge(quota.Charge{ID: "next", Day: today + 1, DayTokens: 11})
	s.wantDay(11)
}
