package testkit

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Collector takes spans by OTLP, and keeps them.
type Collector struct {
	collector.UnimplementedTraceServiceServer

	// Endpoint is as the gateway's setting has it.
	Endpoint string

	mu       sync.Mutex
	hangs    bool
	received []*traces.ResourceSpans
	headers  metadata.MD
}

// StartCollector starts one on a free port, until the test's end.
func StartCollector(t testing.TB) *Collector {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Collector{Endpoint: "http://" + listener.Addr().String()}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, c)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // until it is stopped
	t.Cleanup(func() {
		server.Stop()
		serving.Wait()
	})
	return c
}

// Hang has it give no answer any more.
func (c *Collector) Hang() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hangs = true
}

// Export implements the collector's service.
func (c *Collector) Export(
	ctx context.Context, request *collector.ExportTraceServiceRequest,
) (*collector.ExportTraceServiceResponse, error) {
	if c.isHung() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.headers, _ = metadata.FromIncomingContext(ctx)
	c.received = append(c.received, request.GetResourceSpans()...)
	return &collector.ExportTraceServiceResponse{}, nil
}

func (c *Collector) isHung() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hangs
}

// Received is all that it got, as it came.
func (c *Collector) Received() []*traces.ResourceSpans {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.received)
}

// Headers are those of what it got last.
func (c *Collector) Headers() metadata.MD {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.headers
}

// Spans are all that it got, in the order in which they began.
func (c *Collector) Spans() (spans []*traces.Span) {
	for _, resource := range c.Received() {
		for _, scope := range resource.GetScopeSpans() {
			spans = append(spans, scope.GetSpans()...)
		}
	}
	slices.SortStableFunc(spans, func(a, b *traces.Span) int {
		return int(int64(a.GetStartTimeUnixNano()) - int64(b.GetStartTimeUnixNano()))
	})
	return spans
}

// Named returns the one span of a name; it fails the test if there is none, or another one.
func (c *Collector) Named(t testing.TB, name string) *traces.Span {
	t.Helper()
	var found []*traces.Span
	var names []string
	for _, span := range c.Spans() {
		names = append(names, span.GetName())
		if span.GetName() == name {
			found = append(found, span)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d spans %q among %q", len(found), name, names)
	}
	return found[0]
}

// Attributes are as texts, by name.
func Attributes(of interface{ GetAttributes() []*common.KeyValue }) map[string]string {
	found := map[string]string{}
	for _, one := range of.GetAttributes() {
		value := one.GetValue()
		found[one.GetKey()] = value.GetStringValue()
		if found[one.GetKey()] == "" {
			found[one.GetKey()] = value.String()
		}
	}
	return found
}
