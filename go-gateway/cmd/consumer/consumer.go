package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"triptych.dev/gateway/cmd/consumer/internal/jobs"
	"triptych.dev/gateway/internal/workpool"
)

const (
	// What waits for the gateway or for NATS tries again after a random time up to the first, and at last up to the second.
	backOffBase = 500 * time.Millisecond
	backOffMost = 15 * time.Second

	flushTimeout = 5 * time.Second
)

// consumer is one process of several.
type consumer struct {
	settings *settings
	logger   *slog.Logger
	metrics  *metrics
	jobs     *jobs.Client
	options  []nats.Option
	trouble  trouble
	trusted  atomic.Bool // the server has shown a certificate that we trust, in the last attempt to connect

	connection *nats.Conn
	stream     jetstream.JetStream
	bound      atomic.Pointer[binding] // nil: not yet
	slots      slots

	subscriptions int           // of the connection, while nothing is fetched
	silent        chan struct{} // closed: nothing is fetched any more

	letterDelay time.Duration
}

// newConsumer checks files, and opens nothing.
func newConsumer(s *settings, logger *slog.Logger) (*consumer, error) {
	c := &consumer{settings: s, logger: logger, metrics: newMetrics(), trouble: trouble{logger: logger}, slots: newSlots(s.concurrency),
		silent: make(chan struct{}), letterDelay: letterDelay}
	transport, err := gatewayTransport(s)
	if err != nil {
		return nil, err
	}
	var faults [2]error
	c.jobs, faults[0] = jobs.New(s.gatewayURL, s.keyFile, transport)
	c.options, faults[1] = c.natsOptions()
	return c, errors.Join(faults[:]...)
}

// run works until ctx ends, and drains.
func (c *consumer) run(ctx context.Context) error {
	c.logger.Info("starting", "settings", c.settings.table().Values())
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.settings.metricsAddress)
	if err != nil {
		return fmt.Errorf("metrics listener: %w", err)
	}
	c.logger.Info("listening", "listener", "metrics", "address", listener.Addr().String())
	server := c.operations()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() { _ = server.Close(); <-served }()

	if c.connection, err = c.connectFirst(ctx); err != nil || c.connection == nil {
		return err
	}
	defer c.connection.Close()
	if c.stream, err = jetstream.New(c.connection); err != nil {
		return err
	}
	if err := c.bindPatiently(ctx); err != nil || c.bound.Load() == nil {
		return err
	}
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	watched := make(chan struct{})
	go func() { c.watch(watching); close(watched) }()
	defer func() { stopWatching(); <-watched }()

	c.subscriptions = c.connection.NumSubscriptions()
	progress, err := workpool.Run(ctx, workpool.Options{
		Workers: c.settings.concurrency, Unordered: true, Drain: c.settings.drainTimeout,
		Retry: workpool.Retry{Attempts: math.MaxInt, Base: backOffBase, Max: backOffMost, If: c.again},
	}, c.fetch, c.work, c.settle)
	if ctx.Err() != nil {
		err = nil
	}
	if fault := c.connection.FlushTimeout(flushTimeout); fault != nil { // what was given back
		c.logger.Warn("NATS was away at the end: messages are delivered again when their time is over", "error", fault.Error())
	}
	c.logger.Info("stopped", "messages", progress.Done)
	return err
}

// operations is what people and machines that run it look at.
func (c *consumer) operations() *http.Server {
	routes := http.NewServeMux()
	say := func(when func() bool) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if !when() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}
	}
	routes.HandleFunc("GET /livez", say(func() bool { return true }))
	routes.HandleFunc("GET /readyz", say(c.ready))
	routes.Handle("GET /metrics", c.metrics.handler(c.ready))
	return &http.Server{
		Handler: routes, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 15 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(c.logger.Handler(), slog.LevelDebug),
	}
}

// ready says whether messages are being fetched. A gateway that is away is waited for: its own readiness tells of that.
func (c *consumer) ready() bool {
	return c.bound.Load() != nil && c.connection.IsConnected()
}
