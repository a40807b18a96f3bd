package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/stats"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/telemetry"
	"triptych.dev/gateway/internal/tracing"
)

// canaryText is what the gateway embeds, continues or classifies when nobody else does.
const canaryText = "ready?"

// lookTimeout is for how long a process that works may not answer what it has at hand.
const lookTimeout = 2 * time.Second

// replica is one hot path. Looks and canaries have a connection of their own: on that of the calls they would wait for
// a stream behind them, and full load would look like a fault. The canary of one that is ejected goes the way of the calls.
type replica struct {
	address   string
	options   *Options
	calls     *grpc.ClientConn
	control   *grpc.ClientConn
	inference inferencev1.InferenceServiceClient // on calls
	readiness *readiness
	work      work
	backlogs  backlogs
	full      full
	pool      *pool
	ejection  ejection
	draining  atomic.Bool   // it says so, until there is a new connection
	retries   atomic.Uint64 // calls that another replica had not begun

	stop     context.CancelFunc // of watching it; the pool's
	canaries sync.WaitGroup
	reported map[string]string // what was last logged of each model; used by logChanges alone
}

func newReplica(address string, p *pool) (*replica, error) {
	calls, err := dial(address, grpc.WithStatsHandler(sendTracker{}))
	if err != nil {
		return nil, err
	}
	control, err := dial(address)
	if err != nil {
		return nil, errors.Join(err, calls.Close())
	}
	calls.Connect()
	control.Connect()
	return &replica{
		address: address, options: p.options, pool: p, calls: calls, control: control,
		inference: inferencev1.NewInferenceServiceClient(calls), readiness: newReadiness(), reported: map[string]string{},
	}, nil
}

func dial(address string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	builder := manual.NewBuilderWithScheme("hotpath")
	builder.InitialState(resolver.State{Endpoints: []resolver.Endpoint{{Addresses: []resolver.Address{{Addr: address}}}}})
	connection, err := grpc.NewClient("hotpath:///hotpath", append([]grpc.DialOption{
		grpc.WithResolvers(builder),
		// Of one address; unlike pick_first it connects again by itself.
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
		grpc.WithTransportCredentials(insecure.NewCredentials()), // inside one trust domain; see README
		grpc.WithContextDialer(dialSocketOrPort),
		grpc.WithNoProxy(),
		grpc.WithIdleTimeout(0), // a connection that ends means a process that may be another
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: baseReconnectDelay, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxReconnectDelay,
			},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveInterval, Timeout: keepaliveTimeout}),
		grpc.WithStaticStreamWindowSize(windowSize),
		grpc.WithStaticConnWindowSize(windowSize),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(maxReplyBytes),
			grpc.MaxCallSendMsgSize(maxReplyBytes),
			grpc.WaitForReady(false), // no hot path: say so at once
		),
	}, options...)...)
	if err != nil {
		return nil, fmt.Errorf("hot path client: %w", err)
	}
	return connection, nil
}

// dialSocketOrPort connects to "host:port", or to the Unix socket of "unix:path".
func dialSocketOrPort(ctx context.Context, address string) (net.Conn, error) {
	var dialer net.Dialer
	if path, isSocket := strings.CutPrefix(address, "unix:"); isSocket {
		return dialer.DialContext(ctx, "unix", path)
	}
	return dialer.DialContext(ctx, "tcp", address)
}

func (r *replica) close() error { return errors.Join(r.calls.Close(), r.control.Close()) }

// connected reports whether a call would be sent now.
func (r *replica) connected() bool { return r.calls.GetState() == connectivity.Ready }

// watch keeps what is known of the replica fresh until ctx ends.
func (r *replica) watch(ctx context.Context) {
	connected := make(chan struct{}, 1)
	var watcher sync.WaitGroup
	defer watcher.Wait()
	defer r.canaries.Wait()
	watcher.Go(func() { r.watchConnection(ctx, connected) })
	watcher.Go(func() { r.watchLoad(ctx) })
	ticker := time.NewTicker(min(refreshInterval, r.options.CanaryInterval))
	defer ticker.Stop()
	for {
		r.refresh(ctx)
		r.logChanges()
		select {
		case <-ctx.Done():
			return
		case <-connected:
		case <-ticker.C:
		}
	}
}

// watchConnection forgets everything when the connection is lost: what answers next may be another process, be it
// within the same second. A new connection is worth a look at once.
func (r *replica) watchConnection(ctx context.Context, connected chan<- struct{}) {
	for {
		state := r.control.GetState()
		if state == connectivity.Ready {
			r.draining.Store(false)
			select {
			case connected <- struct{}{}:
			default: // a look is due already
			}
		}
		if !r.control.WaitForStateChange(ctx, state) {
			return
		}
		if state == connectivity.Ready {
			r.readiness.lost(errConnectionLost)
			r.pool.lookAgain() // its address may be another's now
		}
	}
}

// refresh lists the models once, and tries those without a recent success. It does not wait for the outcome.
func (r *replica) refresh(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, min(r.options.Timeout, r.options.ReadyWindow, lookTimeout))
	defer cancel()
	start := time.Now()
	reply, err := inferencev1.NewModelServiceClient(r.control).ListModels(limited, &inferencev1.ListModelsRequest{})
	if ctx.Err() != nil {
		return
	}
	failure := r.observe(ctx, "ListModels", start, err, r.options.Timeout)
	since := r.options.Now().Add(-r.options.CanaryInterval)
	switch {
	case failure == nil:
		r.readiness.listed(reply.GetModels(), r.options.Now())
		if r.pool.onProbation(r) {
			since = r.options.Now() // each model is to be tried
			if !r.readiness.hasServed() {
				r.pool.tried(r, nil) // there is nothing to try it by
			}
		}
	case failure.Reason == fault.HotpathUnavailable: // nobody is there; the next one may be another process
		r.readiness.lost(failure)
	default:
		r.readiness.notListed(failure)
		if failure.Reason == fault.DeadlineExceeded && !isDescribed(err) {
			r.pool.eject(r, errHangs)
		}
	}
	for _, model := range r.readiness.startCanaries(since) {
		r.canaries.Go(func() {
			failure := r.canary(ctx, model)
			r.readiness.canaryDone(model.GetName(), failure, r.options.Now())
			r.judge(failure)
		})
	}
}

// judge takes note of a canary. One that succeeds ends an ejection, but does not excuse calls that fail.
func (r *replica) judge(failure error) {
	switch {
	case failure == nil:
		r.pool.tried(r, nil)
	case isOwn(fault.Of(failure)):
		r.pool.failed(r, failure)
		r.pool.tried(r, failure)
	}
}

// canary makes one tiny inference.
func (r *replica) canary(ctx context.Context, model *inferencev1.Model) error {
	limited, cancel := context.WithTimeout(ctx, r.options.ReadyWindow)
	defer cancel()
	client := inferencev1.NewInferenceServiceClient(r.control)
	if r.ejection.out.Load() {
		// It has to prove itself where the calls would go: that connection may be dead, and nobody notice while none does.
		client = r.inference
	}
	// No tenant has the empty name, so the canary has a turn of its own.
	scheduling := &inferencev1.Scheduling{Priority: inferencev1.Priority_PRIORITY_INTERACTIVE}
	start, method := time.Now(), ""
	var err error
	switch model.GetTask() {
	case inferencev1.Task_TASK_EMBEDDING:
		method = "Embed"
		_, err = client.Embed(limited, &inferencev1.EmbedRequest{
			Model:      model.GetName(),
			Inputs:     []*inferencev1.EmbedInput{{Input: &inferencev1.EmbedInput_Text{Text: canaryText}}},
			Scheduling: scheduling,
		})
	case inferencev1.Task_TASK_GENERATION:
		method, err = "Generate", generateOne(limited, client, &inferencev1.GenerateRequest{
			Model:      model.GetName(),
			Prompt:     &inferencev1.GenerateRequest_Text{Text: canaryText},
			MaxTokens:  1,
			Scheduling: scheduling,
		})
	case inferencev1.Task_TASK_CLASSIFICATION:
		method = "Classify"
		_, err = client.Classify(limited, &inferencev1.ClassifyRequest{
			Model: model.GetName(), Texts: []string{canaryText}, Scheduling: scheduling,
		})
	default: // of a later version: nothing is known that it could prove itself by
		return fmt.Errorf("there is no canary for the task %v", model.GetTask())
	}
	if failure := r.observe(ctx, method, start, err, r.options.ReadyWindow); failure != nil {
		return failure
	}
	return nil
}

// observe counts a call and says what its error means.
func (r *replica) observe(
	ctx context.Context, method string, start time.Time, err error, timeout time.Duration,
) (failure *fault.Fault) {
	outcome := "OK"
	if err != nil {
		failure = faultOf(ctx, err, timeout)
		outcome = string(failure.Reason)
	}
	telemetry.Observe(r.options.Metrics.HotpathSeconds.WithLabelValues(method, outcome), time.Since(start), tracing.From(ctx).TraceID())
	return failure
}

// attempt is one call to one replica.
type attempt struct {
	replica *replica
	// sent: the replica may have seen it.
	sent atomic.Bool
	// answered: the replica has begun to answer.
	answered bool
	// took is how long it was until its end.
	took time.Duration
}

type attemptKey struct{}

// sendTracker learns of each call whether it was sent: grpc-go's errors do not tell.
type sendTracker struct{}

// TagRPC implements stats.Handler.
func (sendTracker) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC implements stats.Handler.
func (sendTracker) HandleRPC(ctx context.Context, event stats.RPCStats) {
	a, ours := ctx.Value(attemptKey{}).(*attempt)
	if !ours {
		return
	}
	switch event.(type) {
	case *stats.Begin: // also when grpc-go repeats what the server says it has not seen
		a.sent.Store(false)
	case *stats.OutHeader:
		a.sent.Store(true)
	}
}

// TagConn implements stats.Handler.
func (sendTracker) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (sendTracker) HandleConn(context.Context, stats.ConnStats) {}
