package inference

import (
	"context"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/testkit"
)

// counter is an Engine that answers as the hot path does: what comes to more than max_charge is refused with the count.
type counter struct {
	recorder
	tokens  uint32   // that each request comes to
	charges []uint64 // max_charge of each call
	failure error
	backlog time.Duration
	fastest float64
}

func (c *counter) Backlog(string) time.Duration { return c.backlog }
func (c *counter) Fastest(string) float64       { return c.fastest }

func (c *counter) Model(name string) *inferencev1.Model {
	if model := testkit.Model(); model.GetName() == name {
		return model
	}
	return nil
}

func (c *counter) Embed(_ context.Context, request *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
	allowed := request.GetScheduling().GetMaxCharge()
	c.charges = append(c.charges, allowed)
	if c.failure != nil {
		return nil, c.failure
	}
	if allowed > 0 && uint64(c.tokens) > allowed {
		return nil, &fault.Fault{Reason: fault.ChargeTooHigh, Limit: allowed, Actual: uint64(c.tokens)}
	}
	return &inferencev1.EmbedResponse{TokenCounts: []uint32{c.tokens}}, nil
}

// embedText embeds a text of so many bytes, and settles.
func (s *Service) embedText(t *testing.T, call Call, bytes int) *fault.Fault {
	t.Helper()
	_, usage, err := s.Embed(t.Context(), call, &inferencev1.EmbedRequest{
		Model:  testkit.ModelName,
		Inputs: []*inferencev1.EmbedInput{{Input: &inferencev1.EmbedInput_Text{Text: strings.Repeat("a", bytes)}}},
	})
	if err != nil {
		return fault.Of(err)
	}
	s.Settle(t.Context(), call.Principal, usage, nil)
	return nil
}

func remaining(t *testing.T, s *Service, call Call) int64 {
	t.Helper()
	limits := s.report(t, call)
	if limits.Tokens == nil {
		t.Fatal("no limit of tokens")
	}
	return limits.Tokens.Remaining
}

func (s *Service) report(t *testing.T, call Call) RateLimits {
	t.Helper()
	report, err := s.Report(t.Context(), call)
	if err != nil {
		t.Fatal(err)
	}
	var limits RateLimits
	for _, status := range report.Limits {
		switch status.Kind {
		case quota.RequestsPerMinute:
			limits.Requests = &status
		case quota.TokensPerMinute, quota.TokensPerDay:
			limits.Tokens = &status
		}
	}
	return limits
}

func TestWhatWasNotUsedIsGivenBack(t *testing.T) {
	engine := &counter{tokens: 30}
	s, call := newService(engine), Call{Principal: limited(quota.Limits{TokensPerMinute: 1000})}
	var told RateLimits
	call.Decided = func(limits RateLimits) { told = limits }
	if err := s.embedText(t, call, 92); err != nil {
		t.Fatal(err)
	}
	if engine.charges[0] != 100 || told.Tokens.Remaining != 900 || told.Requests != nil {
		t.Errorf("reserved %v, told %+v", engine.charges, told.Tokens)
	}
	if left := remaining(t, s, call); left != 970 {
		t.Errorf("%d are left", left)
	}
}

func TestAFailureCostsNoTokensAndIsCounted(t *testing.T) {
	engine := &counter{failure: fault.New(fault.EmptyInput, "nothing")}
	s, call := newService(engine), Call{Principal: limited(quota.Limits{TokensPerMinute: 1000, RequestsPerMinute: 2, ConcurrentRequests: 1})}
	for range 2 {
		if err := s.embedText(t, call, 1); err == nil || err.Reason != fault.EmptyInput {
			t.Fatalf("got %v", err)
		}
	}
	if left := remaining(t, s, call); left != 1000 {
		t.Errorf("%d tokens are left", left)
	}
	if err := s.embedText(t, call, 1); err == nil || err.Reason != fault.RateLimited || err.RetryAfter != 30*time.Second {
		t.Errorf("got %v", err)
	}
}

func TestAPanicGivesBackWhatWasHeld(t *testing.T) {
	s, call := newService(panicking{}), Call{Principal: limited(quota.Limits{TokensPerMinute: 1000, ConcurrentRequests: 1})}
	func() {
		defer func() { _ = recover() }()
		_ = s.embedText(t, call, 1)
	}()
	if left := remaining(t, s, call); left != 1000 {
		t.Errorf("%d tokens are left", left)
	}
}

type panicking struct{ counter }

func (panicking) Embed(context.Context, *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
	panic("nothing works")
}

func (panicking) Backlog(string) time.Duration    { return 0 }
func (panicking) Fastest(string) float64          { return 0 }
func (panicking) Model(string) *inferencev1.Model { return nil }

// A text of 512 bytes may be as many tokens; the hot path knows better, and is asked where it matters.
func TestACallThatMayBeTooLargeIsCountedFirst(t *testing.T) {
	engine := &counter{tokens: 100}
	s, call := newService(engine), Call{Principal: limited(quota.Limits{TokensPerMinute: 200})}
	for range 2 {
		if err := s.embedText(t, call, 200); err != nil {
			t.Fatal(err)
		}
	}
	if engine.charges[0] != 200 || engine.charges[1] != 100 {
		t.Errorf("allowed %v", engine.charges)
	}
	err := s.embedText(t, call, 200) // nothing is left, so nobody counts: after a minute it is sure to be let in
	if err == nil || err.Reason != fault.RateLimited || err.RetryAfter != time.Minute || err.Actual != 208 {
		t.Errorf("got %+v", err)
	}
	if len(engine.charges) != 2 {
		t.Errorf("the hot path was asked: %v", engine.charges)
	}
}

func TestARefusalForTokensHasTheExactCount(t *testing.T) {
	engine := &counter{tokens: 100}
	s, call := newService(engine), Call{Principal: limited(quota.Limits{TokensPerMinute: 120, RequestsPerMinute: 100})}
	if err := s.embedText(t, call, 200); err != nil {
		t.Fatal(err)
	}
	err := s.embedText(t, call, 200)
	if err == nil || err.Reason != fault.RateLimited || err.RetryAfter != 40*time.Second || err.Actual != 100 ||
		!strings.Contains(err.Message, "120 tokens per minute; the request comes to 100") {
		t.Errorf("got %+v", err)
	}
	if left := s.report(t, call); left.Tokens.Remaining != 20 || left.Requests.Remaining != 98 {
		t.Errorf("left are %+v and %+v", left.Tokens, left.Requests)
	}
	engine.tokens = 121
	err = s.embedText(t, call, 200)
	if err == nil || err.Reason != fault.RequestTooLarge || err.Param != "inputs" || err.Limit != 120 || err.Actual != 121 ||
		!strings.Contains(err.Message, "never admits more than 120 (tokens_per_minute of a tenant)") {
		t.Errorf("got %+v", err)
	}
	if left := s.report(t, call); left.Tokens.Remaining != 20 || left.Requests.Remaining != 97 {
		t.Errorf("left are %+v and %+v", left.Tokens, left.Requests)
	}
}

// Of a tenant's and a key's limit of requests the one is told that takes longest, also where less is left of neither.
func TestWhoseLimitRefusedIsTold(t *testing.T) {
	s, call := newService(&counter{tokens: 1}), Call{Principal: limited(quota.Limits{RequestsPerMinute: 60, RequestBurst: 1})}
	call.Principal.Plan.Key = identity.ClassLimits{{RequestsPerMinute: 6, RequestBurst: 1}}
	var told RateLimits
	call.Decided = func(limits RateLimits) { told = limits }
	if err := s.embedText(t, call, 1); err != nil {
		t.Fatal(err)
	}
	err := s.embedText(t, call, 1)
	if err == nil || err.RetryAfter != 10*time.Second || told.Requests.Scope != quota.Key || told.Requests.Reset != 10*time.Second {
		t.Errorf("got %v, told %+v", err, told.Requests)
	}
}

// A tokenizer that makes more of a byte than was thought is believed.
func TestABoundThatWasTooLowIsMended(t *testing.T) {
	engine := &counter{tokens: 100}
	s, call := newService(engine), Call{Principal: limited(quota.Limits{TokensPerMinute: 1000})}
	if err := s.embedText(t, call, 12); err != nil {
		t.Fatal(err)
	}
	if len(engine.charges) != 2 || engine.charges[0] != 20 || engine.charges[1] != 100 || remaining(t, s, call) != 900 {
		t.Errorf("allowed %v, left %d", engine.charges, remaining(t, s, call))
	}
}

func TestCallsAtOnceAreLimited(t *testing.T) {
	s, call := newService(&counter{tokens: 1}), Call{Principal: limited(quota.Limits{ConcurrentRequests: 1})}
	request := &inferencev1.EmbedRequest{Model: testkit.ModelName}
	_, first, err := s.Embed(t.Context(), call, request)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Embed(t.Context(), call, request)
	if refused := fault.Of(err); refused.Reason != fault.ConcurrencyLimited || !strings.Contains(refused.Message, "1 requests at once") {
		t.Errorf("got %v", err)
	}
	s.Settle(t.Context(), call.Principal, first, nil)
	if _, _, err = s.Embed(t.Context(), call, request); err != nil {
		t.Error(err)
	}
	s.expect(t, "", `gateway_rate_limited_total{limit="concurrent_requests",tenant="acme"} 1`)
}
