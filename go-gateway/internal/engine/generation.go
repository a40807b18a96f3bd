package engine

import (
	"context"
	"errors"
	"io"
	"time"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

var errNoDone = errors.New("the hot path ended a stream without saying how it went")

// Generation is one running call of Generate. Deltas must be read to their end, or the Generation closed.
type Generation struct {
	deltas chan *inferencev1.GenerateDelta
	cancel context.CancelFunc
	done   *inferencev1.GenerateDone // both are set before deltas is closed
	err    error
}

// Generate continues a prompt. What it is refused for is Result's error.
func (e *Engine) Generate(ctx context.Context, request *inferencev1.GenerateRequest) *Generation {
	limited, cancel := context.WithTimeout(ctx, e.options.GenerationTimeout)
	// Not buffered: gRPC's window is, and beyond it the hot path feels a reader that stops.
	g := &Generation{deltas: make(chan *inferencev1.GenerateDelta), cancel: cancel}
	go func() {
		defer close(g.deltas)
		defer cancel()
		start := time.Now()
		err := e.receive(limited, request, g)
		e.options.Metrics.HotpathSeconds.WithLabelValues("Generate").Observe(time.Since(start).Seconds())
		if err != nil {
			g.err = generationFault(ctx, err, e.options.GenerationTimeout)
			e.readiness.failed(request.GetModel(), g.err)
		}
	}()
	return g
}

// receive hands deltas on until the stream ends.
func (e *Engine) receive(ctx context.Context, request *inferencev1.GenerateRequest, g *Generation) error {
	stream, err := e.inference.Generate(ctx, request)
	if err != nil {
		return err
	}
	for {
		event, err := stream.Recv()
		switch {
		case err != nil && g.done != nil:
			return nil // all was said, whatever ended it
		case errors.Is(err, io.EOF):
			return errNoDone
		case err != nil:
			return err
		case event.GetDone() != nil:
			g.done = event.GetDone()
			continue // to the stream's own end, so that it is not cancelled just before it
		case event.GetDelta() == nil:
			continue // an event of a later version
		}
		e.readiness.succeeded(request.GetModel(), e.options.Now())
		g.deltas <- event.GetDelta() // somebody reads: Close does, if nobody else
	}
}

func generationFault(ctx context.Context, err error, timeout time.Duration) *fault.Fault {
	if errors.Is(err, errNoDone) {
		return fault.InternalError(err)
	}
	return faultOf(ctx, err, timeout)
}

// Deltas is closed when the stream has ended.
func (g *Generation) Deltas() <-chan *inferencev1.GenerateDelta { return g.deltas }

// Result says how it went, once Deltas is closed: the sum, or a *fault.Fault.
func (g *Generation) Result() (*inferencev1.GenerateDone, error) {
	if g.err != nil {
		return nil, g.err
	}
	return g.done, nil
}

// Close ends the call, if it has not ended, and waits until nothing is left of it.
func (g *Generation) Close() {
	g.cancel()
	for range g.deltas {
	}
}
