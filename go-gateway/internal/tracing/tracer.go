package tracing

import (
	"context"
	"math/rand/v2"

	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Tracer begins traces, or goes on with those that came from elsewhere, and decides which of them are recorded: what began
// one has decided for all of it, and of what begins here so many are taken. A nil Tracer records none.
type Tracer struct {
	provider *sdk.TracerProvider
	ratio    float64
	random   func() float64 // from 0 to 1, which it never is
}

// newTracer returns one whose spans go to a processor as they end.
func newTracer(ratio float64, processor sdk.SpanProcessor, options ...sdk.TracerProviderOption) *Tracer {
	return &Tracer{
		provider: sdk.NewTracerProvider(append([]sdk.TracerProviderOption{
			sdk.WithSampler(sdk.AlwaysSample()), // of what is not sampled there is no span
			sdk.WithRawSpanLimits(limits),
			sdk.WithSpanProcessor(processor),
		}, options...)...),
		ratio:  ratio,
		random: rand.Float64,
	}
}

// Close sends the spans that wait, as far as there is time for it, and ends what was opened for that. Spans that end later are
// dropped.
func (t *Tracer) Close() error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(context.Background()) // the queue has a time of its own
}

// limits are far beyond what the gateway gives a span: they bound what a mistake of ours costs.
var limits = sdk.SpanLimits{
	AttributeValueLengthLimit: 1 << 10, AttributeCountLimit: 64, EventCountLimit: 64, LinkCountLimit: 16,
	AttributePerEventCountLimit: 8, AttributePerLinkCountLimit: 8,
}

// decision is what a context knows of sampling beside its span: that something was left out with all below it, or that what
// comes next is a trace of its own.
type decision struct {
	leftOut bool
	linked  trace.SpanContext
}

type decisionKey struct{}

// Apart returns a context under which a trace of its own begins, with a link to the span of ctx. It is for the parts of
// something large: hundreds in one trace are of no use to who looks at it, and are sampled each for itself.
func Apart(ctx context.Context) context.Context {
	span := trace.SpanContextFromContext(ctx)
	decided, _ := ctx.Value(decisionKey{}).(decision)
	if !span.IsValid() && !decided.leftOut {
		return ctx
	}
	return context.WithValue(trace.ContextWithSpan(ctx, noop.Span{}), decisionKey{}, decision{linked: span})
}

// Request begins the span of a request. traceparent is the trace context that came with it, empty if none did.
func (t *Tracer) Request(ctx context.Context, traceparent string, request Request) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	if traceparent != "" {
		remote := parse(traceparent)
		if !remote.IsSampled() {
			return ctx, nil
		}
		ctx = trace.ContextWithRemoteSpanContext(ctx, remote)
	} else if t.random() >= t.ratio {
		return ctx, nil
	}
	return t.start(ctx, request.name(), trace.SpanKindServer, request.attributes)
}

// Execution begins the span of a request that no client waits for: below what it is a part of, if it is of anything.
func (t *Tracer) Execution(ctx context.Context, route string) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	return t.begin(ctx, "execute "+route, trace.SpanKindInternal, nil)
}

// Job begins the span of a job's work, in a trace of its own: it may come long after what had it done, and more than once. It
// has a link to that, and is recorded if that was.
func (t *Tracer) Job(ctx context.Context, job Job) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	if cause := parse(job.Cause); cause.IsSampled() {
		return t.start(ctx, job.name(), trace.SpanKindConsumer, job.attributes, trace.WithLinks(trace.Link{SpanContext: cause}))
	}
	return t.begin(ctx, job.name(), trace.SpanKindConsumer, job.attributes)
}

// begin starts a span below that of ctx; where there is none, it begins a trace, unless it has been decided that there is
// to be none.
func (t *Tracer) begin(
	ctx context.Context, name string, kind trace.SpanKind, attributes func() []attribute.KeyValue,
) (context.Context, *Span) {
	if trace.SpanFromContext(ctx).IsRecording() {
		return t.start(ctx, name, kind, attributes)
	}
	decided, _ := ctx.Value(decisionKey{}).(decision)
	switch {
	case decided.leftOut:
		return ctx, nil
	case t.random() >= t.ratio:
		return context.WithValue(ctx, decisionKey{}, decision{leftOut: true}), nil
	case decided.linked.IsValid():
		return t.start(ctx, name, kind, attributes, trace.WithLinks(trace.Link{SpanContext: decided.linked}))
	default:
		return t.start(ctx, name, kind, attributes)
	}
}

func (t *Tracer) start(
	ctx context.Context, name string, kind trace.SpanKind, attributes func() []attribute.KeyValue, options ...trace.SpanStartOption,
) (context.Context, *Span) {
	ctx, span := t.provider.Tracer(scope).Start(ctx, name, append(options, trace.WithSpanKind(kind))...)
	if attributes != nil {
		span.SetAttributes(attributes()...)
	}
	return ctx, &Span{span}
}
