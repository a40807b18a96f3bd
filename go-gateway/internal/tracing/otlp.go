package tracing

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

const (
	// A collector that is back gets spans again within some seconds.
	maxReconnectDelay = 5 * time.Second
	connectTimeout    = 5 * time.Second
	// One that vanished is noticed by the next batch, or so.
	keepaliveInterval = 30 * time.Second
	keepaliveTimeout  = 10 * time.Second
	// What grpc-go takes by default, which is what collectors do. A batch of spans as ours are has less than a tenth of it.
	maxRequestBytes = 4 << 20
)

// Options are what a Tracer needs.
type Options struct {
	// Endpoint is a collector's, which takes OTLP by gRPC: "http://host:port", or "https://" for TLS.
	Endpoint string
	// Ratio of the traces that begin here is recorded, from 0 to 1.
	Ratio float64
	// Queue is how many spans wait to be sent at most.
	Queue int
	// Timeout is the time for a collector to take a batch of spans, and at the end for all that wait.
	Timeout time.Duration
	// Version is the gateway's.
	Version  string
	Observer Observer // may be nil
}

// Open returns a Tracer that sends what it records to a collector, which need not be there yet; nil where no endpoint is
// named. Close must be called in the end.
func Open(options Options) (*Tracer, error) {
	if options.Endpoint == "" {
		return nil, nil
	}
	if options.Observer == nil {
		options.Observer = nobody{}
	}
	connection, err := dial(options.Endpoint)
	if err != nil {
		return nil, err
	}
	// Its own variables of the environment would count beside our settings, unless each is set here.
	client := otlptracegrpc.NewClient(
		otlptracegrpc.WithGRPCConn(connection),
		otlptracegrpc.WithTimeout(options.Timeout),
		otlptracegrpc.WithHeaders(map[string]string{}),
		otlptracegrpc.WithMaxRequestSize(maxRequestBytes),
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{}), // none: see queue.export
	)
	sender, err := otlptrace.New(context.Background(), client) // which does not wait for a connection
	if err != nil {
		return nil, errors.Join(err, connection.Close())
	}
	waiting := newQueue(connected{sender, connection}, options.Observer, options.Queue, options.Timeout)
	return newTracer(options.Ratio, waiting, sdk.WithResource(resource.NewWithAttributes(semconv.SchemaURL,
		semconv.ServiceName("triptych-gateway"), semconv.ServiceVersion(options.Version), semconv.ServiceInstanceID(rand.Text()),
	))), nil
}

// connected is an exporter with the connection that it uses.
type connected struct {
	*otlptrace.Exporter
	connection *grpc.ClientConn
}

func (c connected) Shutdown(ctx context.Context) error {
	return errors.Join(c.Exporter.Shutdown(ctx), c.connection.Close())
}

func dial(endpoint string) (*grpc.ClientConn, error) {
	parsed, err := url.Parse(endpoint)
	if err != nil || parsed.Host == "" {
		return nil, fmt.Errorf("%q is no endpoint of a collector", endpoint)
	}
	security := insecure.NewCredentials()
	if parsed.Scheme == "https" {
		security = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})
	}
	reconnect := backoff.DefaultConfig
	reconnect.MaxDelay = maxReconnectDelay
	connection, err := grpc.NewClient("dns:///"+parsed.Host,
		grpc.WithTransportCredentials(security),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: connectTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveInterval, Timeout: keepaliveTimeout}),
		grpc.WithDisableServiceConfig(), // it would come from whoever has the name
	)
	if err != nil {
		return nil, fmt.Errorf("client of the collector of traces: %w", err)
	}
	return connection, nil
}
