package tracing

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"

	"triptych.dev/gateway/internal/periodic"
)

const (
	// maxBatch is how many spans are sent at once: some 300 KB.
	maxBatch = 512
	// sendEvery is how soon a span is sent that no full batch takes along.
	sendEvery = time.Second
)

// Observer is told what becomes of spans, by several goroutines.
type Observer interface {
	// Exported tells that a collector has taken so many spans.
	Exported(spans int)
	// Dropped tells that so many are lost: there were too many that waited, or a collector did not take them.
	Dropped(spans int, why string)
	// Troubled is told the first error of several in a row, and nil when they have ended.
	Troubled(err error)
}

// nobody is an Observer that does not look.
type nobody struct{}

func (nobody) Exported(int)        {}
func (nobody) Dropped(int, string) {}
func (nobody) Troubled(error)      {}

// Why spans are lost.
const (
	QueueFull   = "queue_full"
	NotExported = "not_exported"
	Ended       = "ended" // after the end, or when the time for it was over
)

// exporter sends spans to where they are looked at.
type exporter interface {
	ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error
	Shutdown(ctx context.Context) error
}

// queue has spans wait until they are sent, as many as it has room for. Whoever ends a span never waits: one too many is
// dropped. What is wrong with a collector is the observer's and nobody else's.
//
// OpenTelemetry's own batch processor tells nobody what it dropped, and goes on in the background after its end.
type queue struct {
	exporter exporter
	observer Observer
	timeout  time.Duration // of one batch, and of all that waits at the end

	waiting chan sdk.ReadOnlySpan
	ended   atomic.Bool
	ending  context.Context // ends when no more spans come
	end     context.CancelFunc
	sending context.Context // ends when no more are sent
	stop    context.CancelFunc
	sender  sync.WaitGroup

	trouble periodic.Trouble // of the collector
}

func newQueue(exporter exporter, observer Observer, room int, timeout time.Duration) *queue {
	q := &queue{exporter: exporter, observer: observer, timeout: timeout, waiting: make(chan sdk.ReadOnlySpan, room)}
	q.ending, q.end = context.WithCancel(context.Background())
	q.sending, q.stop = context.WithCancel(context.Background())
	q.sender.Go(q.send)
	return q
}

// OnStart implements sdk.SpanProcessor.
func (q *queue) OnStart(context.Context, sdk.ReadWriteSpan) {}

// OnEnd implements sdk.SpanProcessor. It never waits.
func (q *queue) OnEnd(span sdk.ReadOnlySpan) {
	if q.ended.Load() {
		q.observer.Dropped(1, Ended)
		return
	}
	select {
	case q.waiting <- span:
	default:
		q.observer.Dropped(1, QueueFull)
	}
}

// ForceFlush implements sdk.SpanProcessor. Nobody asks for it: Shutdown sends what waits.
func (q *queue) ForceFlush(context.Context) error { return nil }

// Shutdown implements sdk.SpanProcessor: it sends what waits, within the time of one batch, and leaves nothing behind.
func (q *queue) Shutdown(ctx context.Context) error {
	q.ended.Store(true)
	q.end()
	timer := time.AfterFunc(q.timeout, q.stop)
	q.sender.Wait()
	timer.Stop()
	q.stop()
	q.dropWaiting() // what came as it ended, or was not sent in time
	return q.exporter.Shutdown(ctx)
}

// send sends what waits until the queue ends, and then the rest.
func (q *queue) send() {
	ticker := time.NewTicker(sendEvery)
	defer ticker.Stop()
	batch := make([]sdk.ReadOnlySpan, 0, maxBatch)
	for {
		isLast := false
		select {
		case span := <-q.waiting:
			if batch = append(batch, span); len(batch) < maxBatch {
				continue
			}
		case <-ticker.C:
		case <-q.ending.Done():
			batch = q.fill(batch)
			isLast = len(q.waiting) == 0
		}
		q.export(batch)
		clear(batch) // for the collector of garbage
		batch = batch[:0]
		if isLast || q.sending.Err() != nil {
			return
		}
	}
}

// fill adds what waits to a batch, as far as there is room.
func (q *queue) fill(batch []sdk.ReadOnlySpan) []sdk.ReadOnlySpan {
	for len(batch) < maxBatch {
		select {
		case span := <-q.waiting:
			batch = append(batch, span)
		default:
			return batch
		}
	}
	return batch
}

// export sends a batch once: one that is not taken is lost, since those behind it are as good.
func (q *queue) export(batch []sdk.ReadOnlySpan) {
	if len(batch) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(q.sending, q.timeout)
	defer cancel()
	err := q.exporter.ExportSpans(ctx, batch)
	if err != nil {
		q.observer.Dropped(len(batch), NotExported)
	} else {
		q.observer.Exported(len(batch))
	}
	if q.trouble.Ended(err) || q.trouble.Began(err) {
		q.observer.Troubled(err)
	}
}

func (q *queue) dropWaiting() {
	for {
		select {
		case <-q.waiting:
			q.observer.Dropped(1, Ended)
		default:
			return
		}
	}
}
