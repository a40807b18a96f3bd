// Package engine is the client of the hot paths: connections, deadlines, which of them gets a call, what their errors
// mean, and whether they work.
//
// It speaks the contract's messages and returns *fault.Fault. It must not depend on HTTP or OpenAI's JSON.
package engine

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/telemetry"
)

const (
	// A hot path that is back serves again within about a second.
	baseReconnectDelay = 50 * time.Millisecond
	maxReconnectDelay  = time.Second
	// A machine that does not even refuse must not hold requests for long.
	connectTimeout = 2 * time.Second
	// A machine that vanished while a request waits is noticed in 15 s: the smallest interval that grpc-go takes, and
	// time for one answer.
	keepaliveInterval = 10 * time.Second
	keepaliveTimeout  = 5 * time.Second
	// 2048 vectors of 4096 dimensions are 32 MiB. Tokens take more than their text, which is why that is bounded.
	maxReplyBytes = 64 << 20
	// What a token takes of a reply at most: 3 bytes for its id and 4 for each of its offsets; one more for each stands
	// for what is round them, which is little unless there are many short texts.
	maxTokenBytes = 12
	// As long as name servers of clusters let an answer live.
	defaultResolveInterval = 5 * time.Second
	// The usual large reply (a few MB) is sent without waiting for acknowledgements.
	windowSize = 4 << 20
)

// MaxTokenizeBytes is how many bytes of text Tokenize may be given: even if each is a token, the reply fits.
const MaxTokenizeBytes = maxReplyBytes / maxTokenBytes

// Options are what an Engine needs.
type Options struct {
	// Addresses of the hot paths. "host:port" or "unix:path" is one replica; its name is resolved anew for each
	// connection. "dns:///name:port" is one replica for each address that the name has.
	Addresses []string
	// Resolver looks names of several replicas up; nil: the system's.
	Resolver Resolver
	// ResolveInterval is how old what it says may be; 0: some seconds.
	ResolveInterval time.Duration
	// Random returns a number below n; nil: one of math/rand.
	Random func(n int) int
	// Timeout of one call, but for Generate's.
	Timeout time.Duration
	// GenerationTimeout of one call of Generate.
	GenerationTimeout time.Duration
	// CanaryInterval is how long a model may be without a success before Watch tries it.
	CanaryInterval time.Duration
	// ReadyWindow is how long one success proves that a model works, and how long a list of models is good for.
	ReadyWindow time.Duration
	Metrics     *telemetry.Metrics
	Logger      *slog.Logger
	Now         func() time.Time
}

// Engine calls the hot paths. It is safe for concurrent use.
//
// It repeats nothing that a hot path may have begun to compute. A call that none has seen (no connection, GOAWAY,
// refused stream), or that was refused because this replica does not serve the model now or is about to end, goes to the
// next one. A call that was lost on the way may be what killed the hot path, and a refusal for a full queue must not come
// back at once as more load: whether to repeat those is the client's decision, after Retry-After.
type Engine struct {
	options Options
	pool    *pool
	retries retryBudget
}

// New returns an Engine that connects in the background. Names of several replicas are resolved by Watch.
func New(options Options) (*Engine, error) {
	if options.Resolver == nil {
		options.Resolver = net.DefaultResolver
	}
	if options.ResolveInterval <= 0 {
		options.ResolveInterval = defaultResolveInterval
	}
	if options.Random == nil {
		options.Random = rand.IntN
	}
	e := &Engine{options: options}
	var err error
	if e.pool, err = newPool(&e.options); err != nil {
		return nil, err
	}
	return e, nil
}

// Close ends all connections and the calls on them.
func (e *Engine) Close() error { return e.pool.close() }

// Watch keeps what is known of the replicas fresh, and tries models that nobody uses, until ctx ends.
func (e *Engine) Watch(ctx context.Context) { e.pool.watch(ctx) }

// Embed turns inputs into vectors.
func (e *Engine) Embed(ctx context.Context, request *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
	return invoke(ctx, e, "Embed", true, inferencev1.InferenceServiceClient.Embed, request)
}

// Classify scores texts for a model's labels.
func (e *Engine) Classify(ctx context.Context, request *inferencev1.ClassifyRequest) (*inferencev1.ClassifyResponse, error) {
	return invoke(ctx, e, "Classify", true, inferencev1.InferenceServiceClient.Classify, request)
}

// Tokenize turns texts into tokens, which proves nothing of the model.
func (e *Engine) Tokenize(ctx context.Context, request *inferencev1.TokenizeRequest) (*inferencev1.TokenizeResponse, error) {
	return invoke(ctx, e, "Tokenize", false, inferencev1.InferenceServiceClient.Tokenize, request)
}

// traceparent is what calls carry a trace context as.
const traceparent = "traceparent"

// Outgoing adds what calls carry besides their message. trace is the trace context, for calls that have no span of their own.
func Outgoing(ctx context.Context, requestID, trace string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "x-request-id", requestID, traceparent, trace)
}

// invoke makes one call with a deadline. Its error is a *fault.Fault.
func invoke[Request interface {
	GetModel() string
	GetScheduling() *inferencev1.Scheduling
}, Reply any](
	ctx context.Context, e *Engine, method string, runs bool,
	call func(inferencev1.InferenceServiceClient, context.Context, Request, ...grpc.CallOption) (*Reply, error), request Request,
) (reply *Reply, err error) {
	t := task{method: method, model: request.GetModel(), tokens: tokensOf(request), timeout: e.options.Timeout}
	if runs {
		t.lane = laneOf(request.GetModel(), request.GetScheduling())
	}
	failure := e.route(ctx, t, func(ctx context.Context, a *attempt) (err error) {
		reply, err = call(a.replica.inference, ctx, request)
		if err == nil && runs { // which proves that it can
			a.replica.readiness.succeeded(request.GetModel(), e.options.Now())
		}
		return err
	})
	if failure != nil {
		return nil, failure
	}
	return reply, nil
}
