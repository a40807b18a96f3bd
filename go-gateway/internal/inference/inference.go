// Package inference is one call of a model, whoever makes it: reserve, run, settle. HTTP makes such calls today; what
// works without a client that waits (batches, jobs, ingestion) makes the same ones.
//
// It takes and gives the contract's messages. It must not depend on HTTP or OpenAI's JSON.
package inference

import (
	"context"
	"time"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/telemetry"
)

// Engine runs models. Its errors are *fault.Fault, and name the contract's fields.
type Engine interface {
	Embed(context.Context, *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error)
	Classify(context.Context, *inferencev1.ClassifyRequest) (*inferencev1.ClassifyResponse, error)
	Tokenize(context.Context, *inferencev1.TokenizeRequest) (*inferencev1.TokenizeResponse, error)
	Generate(context.Context, *inferencev1.GenerateRequest) *engine.Generation
}

// Limiter counts calls.
type Limiter interface {
	Take(tenant string, limit quota.Limit, now time.Time) quota.Decision
	Refund(tenant string, limit quota.Limit)
}

// Service makes calls. It is safe for concurrent use.
type Service struct {
	Engine  Engine
	Limiter Limiter
	Metrics *telemetry.Metrics
	// Now is the clock of rate limits.
	Now func() time.Time
}

// Call is whose a call is, and what it carries beside its message. Its deadline and cancellation are its context's.
type Call struct {
	Principal identity.Principal
	// Priority is the class that is asked for; the principal's bounds it.
	Priority               identity.Priority
	RequestID, Traceparent string
}

// Reservation is one call that a principal's rate allows.
type Reservation struct {
	quota.Decision
	Limit  quota.Limit
	tenant string
}

// Reserve takes one call from a principal's rate. Its error is a *fault.Fault; the Reservation tells of the rate all
// the same.
func (s *Service) Reserve(principal identity.Principal) (Reservation, error) {
	plan := principal.Plan
	limit := quota.Limit{PerMinute: plan.RequestsPerMinute, Burst: plan.RequestBurst}
	reserved := Reservation{s.Limiter.Take(principal.Tenant, limit, s.Now()), limit, principal.Tenant}
	if reserved.Allowed {
		return reserved, nil
	}
	s.Metrics.RateLimited.WithLabelValues(principal.Tenant).Inc()
	refused := fault.New(fault.RateLimited,
		"The plan %q allows %d requests per minute, and a burst of %d. Repeat the request in %v.",
		plan.Name, limit.PerMinute, limit.Burst, quota.RoundUp(reserved.RetryAfter))
	refused.RetryAfter = reserved.RetryAfter
	return reserved, refused
}

// Cancel gives back what was reserved for a call that was not made.
func (s *Service) Cancel(reserved Reservation) {
	if reserved.Allowed {
		s.Limiter.Refund(reserved.tenant, reserved.Limit)
	}
}

// Embed turns inputs into vectors.
func (s *Service) Embed(
	ctx context.Context, call Call, request *inferencev1.EmbedRequest,
) (*inferencev1.EmbedResponse, Usage, error) {
	request.Scheduling = call.scheduling()
	reply, err := s.Engine.Embed(call.outgoing(ctx), request)
	if err != nil {
		return nil, Usage{}, err
	}
	return reply, usageOf(request.GetModel(), len(request.GetInputs()), reply.GetTokenCounts(), reply.GetTimings()), nil
}

// Classify scores texts for a model's labels.
func (s *Service) Classify(
	ctx context.Context, call Call, request *inferencev1.ClassifyRequest,
) (*inferencev1.ClassifyResponse, Usage, error) {
	request.Scheduling = call.scheduling()
	reply, err := s.Engine.Classify(call.outgoing(ctx), request)
	if err != nil {
		return nil, Usage{}, err
	}
	return reply, usageOf(request.GetModel(), len(request.GetTexts()), reply.GetTokenCounts(), reply.GetTimings()), nil
}

// Tokenize turns texts into tokens, which is not charged.
func (s *Service) Tokenize(
	ctx context.Context, call Call, request *inferencev1.TokenizeRequest,
) (*inferencev1.TokenizeResponse, Usage, error) {
	request.Scheduling = call.scheduling()
	reply, err := s.Engine.Tokenize(call.outgoing(ctx), request)
	return reply, Usage{}, err
}

// scheduling gives each tenant a turn of its own.
func (c Call) scheduling() *inferencev1.Scheduling {
	priority := inferencev1.Priority_PRIORITY_INTERACTIVE
	if max(c.Priority, c.Principal.Priority) == identity.Batch {
		priority = inferencev1.Priority_PRIORITY_BATCH
	}
	return &inferencev1.Scheduling{FairnessKey: c.Principal.Tenant, Priority: priority}
}

func (c Call) outgoing(ctx context.Context) context.Context {
	return engine.Outgoing(ctx, c.RequestID, c.Traceparent)
}
