package inference

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"time"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/tracing"
)

// RateLimits are the limits of requests and of tokens that refused, or else are the nearest to it; nil where there is none.
type RateLimits struct {
	Requests, Tokens *quota.LimitStatus
}

// demand is what a call asks of its limits.
type demand struct {
	// minTokens and maxTokens are what it costs at least and at most, before its texts were tokenized.
	minTokens, maxTokens int64
	// field is the contract's, which a call is too large for.
	field string
	// least is how many tokens a model has to read for it at least; 0 where that is not known, nil where it never is.
	least func() int64
}

// exactly is the demand of so many tokens.
func (d demand) exactly(tokens uint64) demand {
	d.minTokens = int64(min(tokens, math.MaxInt64))
	d.maxTokens = d.minTokens
	return d
}

// request is what a call asks its limiter.
func (c *Call) request() quota.Request {
	class := max(c.Priority, c.Principal.Scopes.Class)
	return quota.Request{
		Tenant: c.Principal.Tenant, Key: c.Principal.KeyID, Class: class, Limits: c.Principal.Plan.Limits(class), Pending: c.Pending,
	}
}

// Admit refuses a call whose rate of requests is known to be used up, before anything is done for it. Its error is a
// *fault.Fault.
func (s *Service) Admit(call Call) error {
	request := call.request()
	request.Counted = true
	if decision, refused := s.Limiter.Refused(request); refused {
		return s.decided(&call, &request, &decision, demand{})
	}
	return nil
}

// Count takes one request of a call's rate that costs no tokens and does not run: a look at what there is, or one that is
// refused, so that it is not free to be refused. Its error is a *fault.Fault.
func (s *Service) Count(ctx context.Context, call Call) (err error) {
	ctx, span := tracing.Start(ctx, admitting)
	defer func() { span.End(fault.Outcome(err)) }()
	request := call.request()
	request.Counted = true
	held, decision, err := s.Limiter.Reserve(context.WithoutCancel(ctx), request)
	if err != nil {
		return fault.InternalError(err)
	}
	if held != nil {
		held.Settle(0)
	}
	return s.decided(&call, &request, &decision, demand{})
}

// RateLimits are those that a call's latest decision left, or that there are where there was none lately. Nothing is counted.
func (s *Service) RateLimits(ctx context.Context, call Call) (RateLimits, error) {
	decision, err := s.Limiter.Latest(ctx, call.request())
	if err != nil {
		return RateLimits{}, err
	}
	return rateLimits(&decision), nil
}

// Report is what a call's tenant may know of its limits.
func (s *Service) Report(ctx context.Context, call Call) (quota.Report, error) {
	report, err := s.Limiter.Report(ctx, call.request())
	if err != nil {
		return quota.Report{}, fault.InternalError(err)
	}
	return report, nil
}

// Use is what a call's limits are and what is used of them, without refusals; nothing is asked where there are none.
func (s *Service) Use(ctx context.Context, call Call) (quota.Report, error) {
	request := call.request()
	if !request.HasLimits() {
		return quota.Report{}, nil
	}
	report, err := s.Limiter.Use(ctx, request)
	if err != nil {
		return quota.Report{}, fault.InternalError(err)
	}
	return report, nil
}

// admitting is the name of the spans in which limits are asked.
const admitting = "admit"

// reserve takes what a call may cost at most. Its error is a *fault.Fault.
func (s *Service) reserve(ctx context.Context, call *Call, wanted demand) (_ *quota.Held, err error) {
	ctx, span := tracing.Start(ctx, admitting)
	defer func() { span.End(fault.Outcome(err)) }()
	request := call.running(wanted)
	request.Counted = true
	held, decision, err := s.Limiter.Reserve(ctx, request)
	if err != nil {
		return nil, notReserved(ctx, err)
	}
	return held, s.decided(call, &request, &decision, wanted)
}

// replace takes what a call is known to cost, instead of what it was held for. It has been counted.
func (s *Service) replace(ctx context.Context, call *Call, held *quota.Held, exact demand) (_ *quota.Held, err error) {
	ctx, span := tracing.Start(ctx, admitting)
	defer func() { span.End(fault.Outcome(err)) }()
	request := call.running(exact)
	held, decision, err := s.Limiter.Replace(ctx, held, request)
	if err != nil {
		return nil, notReserved(ctx, err)
	}
	return held, s.decided(call, &request, &decision, exact)
}

// running is what a call that runs asks its limiter.
func (c *Call) running(wanted demand) quota.Request {
	request := c.request()
	request.Runs, request.Stream = true, c.Stream
	if request.LimitsTokens() {
		request.MinTokens, request.MaxTokens = wanted.minTokens, wanted.maxTokens
	}
	if request.HasLeases() {
		request.ID = rand.Text()
	}
	return request
}

// decided tells what was decided, and returns a refusal as a *fault.Fault.
func (s *Service) decided(call *Call, request *quota.Request, decision *quota.Decision, wanted demand) error {
	if call.Decided != nil {
		call.Decided(rateLimits(decision))
	}
	refusal := decision.Refusal
	if refusal == nil {
		return nil
	}
	s.Metrics.Tenants.Limited(call.Principal.Tenant, refusal.Kind.String())
	return refusalFault(call, request, decision, wanted)
}

func rateLimits(decision *quota.Decision) (limits RateLimits) {
	if status, found := decision.Binding(quota.RequestsPerMinute); found {
		limits.Requests = &status
	}
	if status, found := decision.Binding(quota.TokensPerMinute, quota.TokensPerDay); found {
		limits.Tokens = &status
	}
	return limits
}

// refusalFault says which limit refused a call, and when it may be repeated.
func refusalFault(call *Call, request *quota.Request, decision *quota.Decision, wanted demand) *fault.Fault {
	refusal := decision.Refusal
	plan := fmt.Sprintf("The plan %q allows", call.Principal.Plan.Name)
	if refusal.Scope == quota.Key {
		plan += " each key"
	}
	if request.Class == quota.Batch {
		plan += ", in batch,"
	}
	if decision.Reservation.Degraded {
		plan = "For as long as limits cannot be shared between gateways, each has a part of them. This one allows"
	}
	repeat := fmt.Sprintf("Repeat the request in %v.", RoundUp(refusal.RetryAfter))
	comes := "may come to"
	if wanted.minTokens == wanted.maxTokens {
		comes = "comes to"
	}
	var refused *fault.Fault
	switch limits := decision.Limits[refusal.Scope]; {
	case refusal.TooLarge:
		return &fault.Fault{
			Reason: fault.RequestTooLarge, Param: wanted.field, Limit: uint64(refusal.Limit), Actual: uint64(refusal.Tokens),
			Message: fmt.Sprintf("`%s` is too much: the request comes to %d tokens or more, and the plan %q never admits more than %d (%v of a %v).",
				wanted.field, refusal.Tokens, call.Principal.Plan.Name, refusal.Limit, refusal.Kind, refusal.Scope),
		}
	case refusal.Kind == quota.RequestsPerMinute:
		refused = fault.New(fault.RateLimited, "%s %d requests per minute, and a burst of %d. %s",
			plan, refusal.Limit, limits.Burst(), repeat)
	case refusal.Kind == quota.TokensPerMinute:
		refused = fault.New(fault.RateLimited, "%s %d tokens per minute; the request %s %d, and fewer are left. %s",
			plan, refusal.Limit, comes, refusal.Tokens, repeat)
	case refusal.Kind == quota.TokensPerDay:
		refused = fault.New(fault.RateLimited, "%s %d tokens per day (UTC); the request %s %d, and fewer are left. %s",
			plan, refusal.Limit, comes, refusal.Tokens, repeat)
	case refusal.Kind == quota.ConcurrentStreams:
		refused = fault.New(fault.ConcurrencyLimited, "%s %d streams at once. Repeat the request when one has ended.", plan, refusal.Limit)
	default:
		refused = fault.New(fault.ConcurrencyLimited, "%s %d requests at once. Repeat the request when one has ended.", plan, refusal.Limit)
	}
	refused.Limit, refused.Actual, refused.RetryAfter = uint64(refusal.Limit), uint64(refusal.Tokens), refusal.RetryAfter
	return refused
}

// RoundUp rounds a wait up to milliseconds: who waits as long must not come too early.
func RoundUp(d time.Duration) time.Duration {
	return (d + time.Millisecond - 1).Truncate(time.Millisecond)
}

// scheduling gives each tenant a turn of its own, as large as its plan says, and lets the call cost what is held for it.
func (c *Call) scheduling(held *quota.Held) *inferencev1.Scheduling {
	priority := inferencev1.Priority_PRIORITY_INTERACTIVE
	if held.Class == quota.Batch {
		priority = inferencev1.Priority_PRIORITY_BATCH
	}
	scheduling := &inferencev1.Scheduling{
		FairnessKey: c.Principal.Tenant, Priority: priority, Weight: uint32(c.Principal.Plan.Weight),
	}
	if held.MaxTokens > 0 {
		scheduling.MaxCharge = uint64(held.Granted)
	}
	return scheduling
}

// exactCharge is what a call comes to that was refused for it once it was tokenized; false if that was not why.
func exactCharge(held *quota.Held, err error) (tokens uint64, refused bool) {
	if err == nil || held.MaxTokens == 0 {
		return 0, false
	}
	refusal := fault.Of(err)
	return refusal.Actual, refusal.Reason == fault.ChargeTooHigh && refusal.Actual > uint64(held.Granted)
}
