package engine

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

const (
	// loadInterval is how old what a replica says of its load may be.
	loadInterval = 250 * time.Millisecond
	// longestBacklog is far beyond what any request waits for.
	longestBacklog = time.Hour
)

// load is what a replica last said of how much its models have to do. The zero value knows nothing.
type load struct {
	byModel atomic.Pointer[map[string]*inferencev1.ModelLoad]
}

// watch keeps it fresh until ctx ends. A hot path that does not tell its load, as one of an earlier version, is like one
// that has none.
func (l *load) watch(ctx context.Context, connection grpc.ClientConnInterface) {
	for ctx.Err() == nil {
		l.follow(ctx, connection)
		l.byModel.Store(nil) // what answers next may be another process
		select {
		case <-ctx.Done():
		case <-time.After(refreshInterval):
		}
	}
}

// follow takes what one stream tells.
func (l *load) follow(ctx context.Context, connection grpc.ClientConnInterface) {
	client := inferencev1.NewModelServiceClient(connection)
	stream, err := client.WatchLoad(ctx, &inferencev1.WatchLoadRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return
	}
	for {
		reply, err := stream.Recv()
		if err != nil {
			return
		}
		byModel := make(map[string]*inferencev1.ModelLoad, len(reply.GetModels()))
		for _, model := range reply.GetModels() {
			byModel[model.GetModel()] = model
		}
		l.byModel.Store(&byModel)
	}
}

// backlog is about how long the replica needs for all that it has of a model, in whole intervals: of less it is not known
// whether it is still there. 0 where nothing is known.
func (l *load) backlog(model string) time.Duration {
	byModel := l.byModel.Load()
	if byModel == nil {
		return 0
	}
	said := (*byModel)[model]
	tokens, rate := float64(said.GetQueuedTokens())+float64(said.GetRunningTokens()), said.GetTokensPerSecond()
	if !(rate > 0) { // nor is it a number
		return 0
	}
	seconds := tokens / rate
	return time.Duration(min(seconds, longestBacklog.Seconds()) * float64(time.Second)).Truncate(loadInterval)
}
