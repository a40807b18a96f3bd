// Package server is HTTP in and HTTP out: routes, what every request goes through, and the handlers.
//
// A handler reads the whole request before it calls the hot path, and has the whole reply before it writes, unless the
// client asked for a stream: a slow client costs a connection, never a worker. What JSON looks like is package
// openai's; who may do what is identity's and quota's.
package server

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"triptych.dev/gateway/internal/admission"
	"triptych.dev/gateway/internal/batch"
	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/inference"
	"triptych.dev/gateway/internal/jobs"
	"triptych.dev/gateway/internal/openai"
	"triptych.dev/gateway/internal/telemetry"
	"triptych.dev/gateway/internal/tracing"
	"triptych.dev/gateway/internal/webhook"
)

// Authenticator says whose an Authorization header's value is. Its errors are *fault.Fault.
type Authenticator interface {
	Authenticate(authorization string) (identity.Principal, error)
}

// Options are what a Server needs.
type Options struct {
	Authenticator Authenticator
	Inference     *inference.Service
	// Engine is asked for models and readiness alone.
	Engine *engine.Engine
	// Files are nil where there are none.
	Files *files.Files
	// Batches are nil where there are none.
	Batches *batch.Batches
	// Jobs are nil where there are none.
	Jobs     *jobs.Jobs
	Webhooks *webhook.Webhooks
	// Answers are what creations were answered, for those who repeat them.
	Answers Answers
	// LimitsDegraded reports whether a local share of the limits holds; nil if it never does.
	LimitsDegraded func() bool
	Metrics        *telemetry.Metrics
	// Tracer is nil where no spans are recorded.
	Tracer *tracing.Tracer
	Logger *slog.Logger
	// Now is the clock of what is measured to tell when there will be room.
	Now func() time.Time

	// MaxBodyBytes is the largest request body.
	MaxBodyBytes int
	// MaxInflight is how many API requests are served at once, those aside whose body is still to come.
	MaxInflight int
	// MaxBodiesBytes is how many bytes of request bodies there are at once.
	MaxBodiesBytes int
	// BodyTimeout is the time for a body to arrive.
	BodyTimeout time.Duration
	// TransferStall is how long an upload or a download may stand still.
	TransferStall time.Duration
	// MinTransferRate is how many bytes a second an upload or a download has at least, on average.
	MinTransferRate int
	// WriteTimeout is the time for a client to take its reply, or one event of a stream.
	WriteTimeout time.Duration
	// StreamHeartbeat is how long a stream may be silent.
	StreamHeartbeat time.Duration
	// Decoder reads bodies.
	Decoder *openai.Decoder
	// IgnoreUnknownFields skips fields of a body that are not known, and names them in a header, in place of refusing them.
	IgnoreUnknownFields bool
	// CORSOrigins are the origins whose pages may call the API: "https://host", with at most one "*" in it, or "*" for all.
	CORSOrigins []string
}

// Server answers HTTP requests. It is safe for concurrent use.
type Server struct {
	Options
	draining atomic.Bool
	drained  context.Context // ends as soon as it drains
	endWaits context.CancelFunc
	waits    *admission.Pool // of requests that wait for a job's end
	slots    *admission.Pool // of API requests that are being served
	bodies   *admission.Pool // bytes of request bodies
	drains   *admission.Pool // of refused bodies that are read to their end
	buffers  bufferPool
	creating keysInFlight
	calls    map[string]handler // what Execute runs, by path
}

// New returns a Server that is ready as soon as the engine is.
func New(options Options) *Server {
	s := &Server{
		Options: options,
		waits:   admission.NewPool(maxWaits, oneSlot),
		slots:   admission.NewPool(int64(options.MaxInflight), oneSlot),
		bodies:  admission.NewPool(int64(options.MaxBodiesBytes), guaranteedBytes),
		drains:  admission.NewPool(maxDrains, oneSlot),
	}
	s.drained, s.endWaits = context.WithCancel(context.Background())
	s.calls = s.modelCalls()
	return s
}

// Drain makes /readyz say no and asks clients to close their connections; requests are still served, but who waits for a job
// is told what it is now.
func (s *Server) Drain() {
	s.draining.Store(true)
	s.endWaits()
}

// Ready reports what /readyz says.
func (s *Server) Ready() bool {
	ready, _ := s.Engine.Ready()
	return ready && !s.draining.Load()
}
