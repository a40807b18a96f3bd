package engine

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

// A stream ends with its sum. One that was not closed by then is not waited for any longer.
const closingGrace = time.Second

var errNoDone = errors.New("the hot path ended a stream without saying how it went")

// Generation is one running call of Generate. Events must be read to their end, or the Generation closed.
type Generation struct {
	events chan *inferencev1.GenerateResponse
	cancel context.CancelFunc
	done   *inferencev1.GenerateDone // both are set before events is closed
	err    error
}

// Generate continues a prompt. What it is refused for is Result's error.
func (e *Engine) Generate(ctx context.Context, request *inferencev1.GenerateRequest) *Generation {
	ctx, cancel := context.WithCancel(ctx)
	// Not buffered: gRPC's window is, and beyond it the hot path feels a reader that stops.
	g := &Generation{events: make(chan *inferencev1.GenerateResponse), cancel: cancel}
	go func() {
		defer close(g.events)
		defer cancel()
		started := false
		t := task{
			method: "Generate", model: request.GetModel(), tokens: e.generationCost(request),
			timeout: e.options.GenerationTimeout, home: homeOf(ctx, request),
			lane: laneOf(request.GetModel(), request.GetScheduling()),
		}
		failure := e.route(ctx, t, func(ctx context.Context, a *attempt) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			stream, err := a.replica.inference.Generate(ctx, request)
			if err != nil {
				return err
			}
			g.done, err = receive(stream, cancel, func(event *inferencev1.GenerateResponse) {
				if event.GetDelta() != nil { // what has only started can start elsewhere
					a.answered = true
					a.replica.readiness.succeeded(request.GetModel(), e.options.Now())
				} else if started { // and did
					return
				}
				started = true
				g.events <- event // somebody reads: Close does, if nobody else
			})
			return err
		})
		if failure != nil {
			g.err = failure
		}
	}()
	return g
}

// generateOne makes a call and wants nothing of it but that it succeeds.
func generateOne(
	ctx context.Context, client inferencev1.InferenceServiceClient, request *inferencev1.GenerateRequest,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Generate(ctx, request)
	if err != nil {
		return err
	}
	_, err = receive(stream, cancel, func(*inferencev1.GenerateResponse) {})
	return err
}

// receive hands on what starts and goes on until the stream ends, and returns the sum. cancel ends the stream.
func receive(
	stream grpc.ServerStreamingClient[inferencev1.GenerateResponse], cancel func(), give func(*inferencev1.GenerateResponse),
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
		case (event.GetStarted() != nil || event.GetDelta() != nil) && done == nil:
			give(event)
		default: // an event of a later version, or one that is too late
		}
	}
}

// Events are what starts the stream and what it says. Closed when it has ended.
func (g *Generation) Events() <-chan *inferencev1.GenerateResponse { return g.events }

// Result says how it went, once Events is closed: the sum, or a *fault.Fault.
func (g *Generation) Result() (*inferencev1.GenerateDone, error) {
	if g.err != nil {
		return nil, g.err
	}
	return g.done, nil
}

// Close ends the call, if it has not ended, and waits until nothing is left of it.
func (g *Generation) Close() {
	g.cancel()
	for range g.events {
	}
}
