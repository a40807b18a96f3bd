// Package engine is the client of the hot path: connections, deadlines, what its errors mean, and whether it works.
//
// It speaks the contract's messages and returns *fault.Fault. It must not depend on HTTP or OpenAI's JSON.
package engine

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	_ "google.golang.org/grpc/balancer/leastrequest" // registers least_request_experimental
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // registers the client's health checks
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/telemetry"
)

const (
	// A hot path that is back serves again within about a second.
	firstReconnect   = 50 * time.Millisecond
	slowestReconnect = time.Second
	// A machine that does not even refuse must not hold requests for long.
	connectTimeout = 2 * time.Second
	// A machine that vanished while a request waits is noticed in 15 s: the smallest interval that grpc-go takes, and
	// time for one answer.
	keepaliveInterval = 10 * time.Second
	keepaliveTimeout  = 5 * time.Second
	// 2048 vectors of 4096 dimensions are 32 MiB. Tokens take more than their text, which is why that is bounded.
	largestReply = 64 << 20
	// What a token takes of a reply at most: 3 bytes for its id and 4 for each of its offsets; one more for each stands for
	// what is round them, which is little unless there are many short texts.
	longestToken = 12
	// The usual large reply (a few MB) is sent without waiting for acknowledgements.
	windowSize = 4 << 20
)

// MostBytesToTokenize is how many bytes of text Tokenize may be given: even if each is a token, the reply fits.
const MostBytesToTokenize = largestReply / longestToken

// Options are what an Engine needs.
type Options struct {
	// Addresses of the hot paths, host:port. Names are resolved anew for each connection.
	Addresses []string
	// Timeout of one call, but for Generate's.
	Timeout time.Duration
	// GenerationTimeout of one call of Generate.
	GenerationTimeout time.Duration
	// CanaryInterval is how long a model may be without a success before Watch tries it.
	CanaryInterval time.Duration
	// ReadyWindow is how long one success proves that a model works.
	ReadyWindow time.Duration
	Metrics     *telemetry.Metrics
	Now         func() time.Time
}

// Engine calls the hot path. It is safe for concurrent use.
//
// It repeats nothing by itself. grpc-go repeats a call that no server has seen (GOAWAY, refused stream), and picks a hot
// path that is connected. A call that was lost on the way may be what killed the hot path, and a refusal for a full
// queue must not come back at once as more load: whether to repeat those is the client's decision, after Retry-After.
type Engine struct {
	options    Options
	connection *grpc.ClientConn
	inference  inferencev1.InferenceServiceClient
	models     inferencev1.ModelServiceClient
	readiness  readiness
}

// New returns an Engine that connects when it is first used.
func New(options Options) (*Engine, error) {
	builder := manual.NewBuilderWithScheme("hotpath")
	builder.InitialState(resolver.State{Endpoints: endpoints(options.Addresses)})
	connection, err := grpc.NewClient("hotpath:///hotpath",
		grpc.WithResolvers(builder),
		grpc.WithDefaultServiceConfig(serviceConfig(len(options.Addresses))),
		grpc.WithTransportCredentials(insecure.NewCredentials()), // inside one trust domain; see README
		grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstReconnect, Multiplier: 1.6, Jitter: 0.2, MaxDelay: slowestReconnect},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveInterval, Timeout: keepaliveTimeout}),
		grpc.WithStaticStreamWindowSize(windowSize),
		grpc.WithStaticConnWindowSize(windowSize),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(largestReply),
			grpc.MaxCallSendMsgSize(largestReply),
			grpc.WaitForReady(false), // no hot path: say so at once
		),
	)
	if err != nil {
		return nil, fmt.Errorf("hot path client: %w", err)
	}
	return &Engine{
		options:    options,
		connection: connection,
		inference:  inferencev1.NewInferenceServiceClient(connection),
		models:     inferencev1.NewModelServiceClient(connection),
		readiness:  newReadiness(),
	}, nil
}

// Close ends all connections and the calls on them.
func (e *Engine) Close() error { return e.connection.Close() }

// Embed turns inputs into vectors.
func (e *Engine) Embed(ctx context.Context, request *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
	reply, err := invoke(ctx, e, "Embed", e.inference.Embed, request)
	if err != nil {
		e.readiness.failed(request.GetModel(), err)
		return nil, err
	}
	e.readiness.succeeded(request.GetModel(), e.options.Now())
	return reply, nil
}

// Classify scores texts for a model's labels.
func (e *Engine) Classify(ctx context.Context, request *inferencev1.ClassifyRequest) (*inferencev1.ClassifyResponse, error) {
	reply, err := invoke(ctx, e, "Classify", e.inference.Classify, request)
	if err != nil {
		e.readiness.failed(request.GetModel(), err)
		return nil, err
	}
	e.readiness.succeeded(request.GetModel(), e.options.Now())
	return reply, nil
}

// Tokenize turns texts into tokens.
func (e *Engine) Tokenize(ctx context.Context, request *inferencev1.TokenizeRequest) (*inferencev1.TokenizeResponse, error) {
	return invoke(ctx, e, "Tokenize", e.inference.Tokenize, request)
}

// Outgoing adds what calls carry besides their message.
func Outgoing(ctx context.Context, requestID, traceparent string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "x-request-id", requestID, "traceparent", traceparent)
}

// invoke makes one call with a deadline. Its error is a *fault.Fault.
func invoke[Request, Reply any](
	ctx context.Context, e *Engine, method string,
	call func(context.Context, *Request, ...grpc.CallOption) (*Reply, error), request *Request,
) (*Reply, error) {
	limited, cancel := context.WithTimeout(ctx, e.options.Timeout)
	defer cancel()
	start := time.Now()
	reply, err := call(limited, request)
	e.options.Metrics.HotpathSeconds.WithLabelValues(method).Observe(time.Since(start).Seconds())
	if err != nil {
		return nil, faultOf(ctx, err, e.options.Timeout)
	}
	return reply, nil
}

func endpoints(addresses []string) []resolver.Endpoint {
	list := make([]resolver.Endpoint, len(addresses))
	for i, address := range addresses {
		list[i] = resolver.Endpoint{Addresses: []resolver.Address{{Addr: address}}}
	}
	return list
}

// serviceConfig chooses how calls are spread. Several hot paths are asked for their health, so that one that is not
// ready gets no calls. One alone is not asked: it can say better than a balancer which of its models is not ready.
func serviceConfig(addresses int) string {
	const policy = `"loadBalancingConfig": [{"least_request_experimental": {"choiceCount": 2}}]`
	if addresses == 1 {
		return `{` + policy + `}`
	}
	return `{` + policy + `, "healthCheckConfig": {"serviceName": ""}}`
}
