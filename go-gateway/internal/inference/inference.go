// Package inference is one call of a model, whoever makes it: reserve, run, settle. HTTP makes such calls today; what
// works without a client that waits (batches, jobs, ingestion) makes the same ones.
//
// It takes and gives the contract's messages. It must not depend on HTTP or OpenAI's JSON.
package inference

import (
	"context"
	"errors"
	"fmt"
	"time"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/telemetry"
	"triptych.dev/gateway/internal/tracing"
)

// Engine runs models. Its errors are *fault.Fault, and name the contract's fields.
type Engine interface {
	Embed(context.Context, *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error)
	Classify(context.Context, *inferencev1.ClassifyRequest) (*inferencev1.ClassifyResponse, error)
	Tokenize(context.Context, *inferencev1.TokenizeRequest) (*inferencev1.TokenizeResponse, error)
	Generate(context.Context, *inferencev1.GenerateRequest) *engine.Generation
	// Model is what is known of one; nil if it is not known, which is for the hot path to refuse.
	Model(name string) *inferencev1.Model
	// Backlog is about how long a model needs for all that it has to do; 0 where that is not known.
	Backlog(model string) time.Duration
	// Fastest is how many tokens a second a model has done at best; 0 where that is not known.
	Fastest(model string) float64
}

// ErrChecked is the end of a call that was to be checked alone.
var ErrChecked = errors.New("the call is good as far as can be told before it is made")

// Service makes calls. It is safe for concurrent use.
type Service struct {
	Engine  Engine
	Limiter *quota.Limiter
	Metrics *telemetry.Metrics
	// Resolve returns the name under which a model is served, for the models that scopes name; nil if there are no other
	// names. What is called has been resolved.
	Resolve func(name string) string
}

// Permit refuses a model that a principal may not use. Its error is a *fault.Fault.
func (s *Service) Permit(principal identity.Principal, model string) error {
	resolve := s.Resolve
	if resolve == nil {
		resolve = func(name string) string { return name }
	}
	if !principal.Scopes.MayUse(model, resolve) {
		return principal.Scopes.LacksModel(model)
	}
	return nil
}

// withoutOthers takes from an error the names of models that its principal may not see.
func withoutOthers(principal identity.Principal, model string, err error) error {
	found := fault.Of(err)
	if found.Reason != fault.ModelNotFound || len(principal.Scopes.Models) == 0 {
		return err
	}
	hidden := *found
	hidden.Message = fmt.Sprintf("There is no model %.64q here.", model)
	return &hidden
}

// Call is whose a call is, and what it carries beside its message. Its deadline and cancellation are its context's.
type Call struct {
	Principal identity.Principal
	// Priority is the class that is asked for; the principal's scopes bound it.
	Priority               quota.Class
	RequestID, Traceparent string
	// Ahead is the part of what a model has to do that is done before this call, from 0 to 1, as calls take turns.
	Ahead float64
	// Pending is charged what the call uses of the day, where the call is a part of durable work; nil: the call is.
	Pending *quota.Pending
	// CheckOnly has the call refused with ErrChecked once nothing else can refuse it before the model is asked.
	CheckOnly bool
	// Stream says that the caller takes the reply as it comes.
	Stream bool
	// Decided is told of the limits what is left when the call was admitted or refused; it may be nil.
	Decided func(RateLimits)
}

// metered makes a call of a model that its principal may use, whose whole reply comes at once: it reserves what the call
// may cost at most, and hands what it holds on to the usage, which is to be settled. A call that comes to more than was
// held for it is made once more if there is as much.
func metered[Reply any](
	ctx context.Context, s *Service, call *Call, operation tracing.Operation, model string, wanted demand,
	run func(context.Context, *inferencev1.Scheduling) (Reply, error), usageOf func(Reply) Usage,
) (reply Reply, usage Usage, err error) {
	if err := s.Permit(call.Principal, model); err != nil {
		return reply, Usage{}, err
	}
	if call.CheckOnly {
		return reply, Usage{}, ErrChecked
	}
	ctx, span := tracing.StartInference(ctx, operation)
	defer func() { s.endSpan(span, operation, model, &usage, err) }()
	if err := s.inTime(ctx, call, model, wanted.least); err != nil {
		return reply, Usage{}, err
	}
	held, err := s.reserve(ctx, call, wanted)
	if err != nil {
		return reply, Usage{}, err
	}
	defer func() {
		if usage.held == nil { // also after a panic
			held.Settle(0)
		}
	}()
	reply, err = run(ctx, call.scheduling(held))
	if tokens, refused := exactCharge(held, err); refused {
		exact, refusal := s.replace(ctx, call, held, wanted.exactly(tokens))
		if refusal != nil {
			return reply, Usage{}, refusal
		}
		held = exact
		reply, err = run(ctx, call.scheduling(held))
	}
	if err != nil {
		return reply, Usage{}, withoutOthers(call.Principal, model, err)
	}
	usage = usageOf(reply)
	usage.held = held
	return reply, usage, nil
}

// Embed turns inputs into vectors. The usage is to be settled.
func (s *Service) Embed(
	ctx context.Context, call Call, request *inferencev1.EmbedRequest,
) (*inferencev1.EmbedResponse, Usage, error) {
	return metered(ctx, s, &call, tracing.Embeddings, request.GetModel(), s.embedDemand(&call, request),
		func(ctx context.Context, scheduling *inferencev1.Scheduling) (*inferencev1.EmbedResponse, error) {
			request.Scheduling = scheduling
			return s.Engine.Embed(call.outgoing(ctx), request)
		},
		func(reply *inferencev1.EmbedResponse) Usage {
			return usageOf(request.GetModel(), len(request.GetInputs()), reply.GetTokenCounts(), reply.GetTimings())
		})
}

// Classify scores texts for a model's labels. The usage is to be settled.
func (s *Service) Classify(
	ctx context.Context, call Call, request *inferencev1.ClassifyRequest,
) (*inferencev1.ClassifyResponse, Usage, error) {
	return metered(ctx, s, &call, tracing.Classification, request.GetModel(), s.classifyDemand(&call, request),
		func(ctx context.Context, scheduling *inferencev1.Scheduling) (*inferencev1.ClassifyResponse, error) {
			request.Scheduling = scheduling
			return s.Engine.Classify(call.outgoing(ctx), request)
		},
		func(reply *inferencev1.ClassifyResponse) Usage {
			return usageOf(request.GetModel(), len(request.GetTexts()), reply.GetTokenCounts(), reply.GetTimings())
		})
}

// Tokenize turns texts into tokens, none of which is charged. The usage is to be settled.
func (s *Service) Tokenize(
	ctx context.Context, call Call, request *inferencev1.TokenizeRequest,
) (*inferencev1.TokenizeResponse, Usage, error) {
	return metered(ctx, s, &call, tracing.Tokenization, request.GetModel(), demand{},
		func(ctx context.Context, scheduling *inferencev1.Scheduling) (*inferencev1.TokenizeResponse, error) {
			request.Scheduling = scheduling
			return s.Engine.Tokenize(call.outgoing(ctx), request)
		},
		func(*inferencev1.TokenizeResponse) Usage { return Usage{} })
}

func (c *Call) outgoing(ctx context.Context) context.Context {
	return engine.Outgoing(ctx, c.RequestID, c.Traceparent)
}
