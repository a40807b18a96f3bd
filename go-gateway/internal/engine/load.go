package engine

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

// watchLoad keeps what a replica tells of its load fresh until ctx ends. A hot path that does not tell it, as one of an
// earlier version, is like one that has nothing to do but for this gateway.
func (r *replica) watchLoad(ctx context.Context) {
	for ctx.Err() == nil {
		r.followLoad(ctx)
		r.backlogs.forget()
		r.full.forget()
		r.work.forget() // what answers next may be another process
		select {
		case <-ctx.Done():
		case <-time.After(refreshInterval):
		}
	}
}

// followLoad takes what one stream tells.
func (r *replica) followLoad(ctx context.Context) {
	client := inferencev1.NewModelServiceClient(r.control)
	stream, err := client.WatchLoad(ctx, &inferencev1.WatchLoadRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return
	}
	for {
		reply, err := stream.Recv()
		if errors.Is(err, io.EOF) { // the end of what has no end
			r.draining.Store(true)
		}
		if err != nil {
			return
		}
		r.draining.Store(false) // nothing is told while it does
		r.work.tell(toldTokens(reply.GetModels()))
		r.backlogs.tell(reply.GetModels())
	}
}

// toldTokens is how many tokens wait or run, of all models: they share the machine. Models that share a queue count twice,
// on each replica alike.
func toldTokens(models []*inferencev1.ModelLoad) (tokens int64) {
	for _, model := range models {
		for _, part := range []uint64{model.GetQueuedTokens(), model.GetRunningTokens()} {
			tokens = min(tokens+int64(min(part, mostTokens)), mostTokens)
		}
	}
	return tokens
}
