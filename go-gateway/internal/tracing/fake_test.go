package tracing

import (
	"context"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// counts is an observer.
type counts struct {
	mu       sync.Mutex
	exported int
	dropped  map[string]int
	troubles []error
}

func (c *counts) Exported(spans int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.exported += spans
}

func (c *counts) Dropped(spans int, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dropped == nil {
		c.dropped = map[string]int{}
	}
	c.dropped[why] += spans
}

func (c *counts) Troubled(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.troubles = append(c.troubles, err)
}

// check holds that so many spans came to these ends, and no others to any.
func (c *counts) check(t *testing.T, exported, full, notExported, ended int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.exported != exported || c.dropped[QueueFull] != full || c.dropped[NotExported] != notExported || c.dropped[Ended] != ended {
		t.Errorf("%d exported, dropped %v; want %d, and %d, %d, %d of %s, %s, %s",
			c.exported, c.dropped, exported, full, notExported, ended, QueueFull, NotExported, Ended)
	}
}

// sent is an exporter that answers as it is told.
type sent struct {
	batches []int
	answer  func(ctx context.Context) error // nil: it takes all
	ended   bool
}

func (s *sent) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	s.batches = append(s.batches, len(spans))
	if s.answer != nil {
		return s.answer(ctx)
	}
	return nil
}

func (s *sent) Shutdown(context.Context) error {
	s.ended = true
	return nil
}

// hangs is the answer of a collector that never gives one.
func hangs(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// end ends so many spans.
func (q *queue) endSpans(count int) {
	for range count {
		q.OnEnd(tracetest.SpanStub{}.Snapshot())
	}
}

// recording returns a Tracer that records all traces, and what it has recorded.
func recording(t *testing.T) (*Tracer, *tracetest.SpanRecorder) {
	recorder := tracetest.NewSpanRecorder()
	tracer := newTracer(1, recorder)
	t.Cleanup(func() {
		if err := tracer.Close(); err != nil {
			t.Error(err)
		}
	})
	return tracer, recorder
}
