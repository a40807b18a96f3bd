package engine

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"

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
	ctx, cancel := context.WithCancel(ctx)
	// Not buffered: gRPC's window is, and beyond it the hot path feels a reader that stops.
	g := &Generation{deltas: make(chan *inferencev1.GenerateDelta), cancel: cancel}
	go func() {
		defer close(g.deltas)
		defer cancel()
		timeout := e.options.GenerationTimeout
		failure := e.route(ctx, "Generate", request.GetModel(), timeout, func(ctx context.Context, a *attempt) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			stream, err := a.replica.inference.Generate(ctx, request)
			if err != nil {
				return err
			}
			g.done, err = receive(stream, cancel, func(delta *inferencev1.GenerateDelta) {
				a.answered = true
				a.replica.readiness.succeeded(request.GetModel(), e.options.Now())
				g.deltas <- delta // somebody reads: Close does, if nobody else
			})
			return err
		})
		if failure != nil {
			g.err = failure
		}
	}()
	return g
}

// receive hands deltas on until the stream ends, and returns the sum. cancel ends the stream.
func receive(
	stream grpc.ServerStreamingClient[inferencev1.GenerateResponse], cancel func(), give func(*inferencev1.GenerateDelta),
) (done *inferencev1.GenerateDone, err error) {
	for {
		event, err := stream.Recv()
		switch {
		case err != nil && done != nil:
			return done, nil // all was said, whatever ended it
		case errors.Is(err, io.EOF):
			return nil, errNoDone
		case err != nil:
			return nil, err
		case event.GetDone() != nil && done == nil:
			done = event.GetDone()
			// On to the stream's own end, so that it is not cancelled just before it; but not for long.
			defer time.AfterFunc(closingGrace, cancel).Stop()
		case event.GetDelta() != nil && done == nil:
			give(event.GetDelta())
		default: // an event of a later version, or one that is too late
		}
	}
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
