package engine

import (
	"context"
	"hash/fnv"
	"strconv"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

type cacheKey struct{}

// WithCacheKey marks calls that begin alike, by their caller's own word: they belong on one replica, which then computes
// what they have in common once.
func WithCacheKey(ctx context.Context, key string) context.Context {
	if key == "" {
		return ctx
	}
	return context.WithValue(ctx, cacheKey{}, key)
}

// homeOf is equal for calls that should go to the same replica: a tenant's with the same key, or else those of one
// conversation, by all that is said up to the first word of its user. Instructions alone would bring all conversations
// of an application together; and every replica soon holds those anyway. 0 is for those that may go anywhere.
func homeOf(ctx context.Context, request *inferencev1.GenerateRequest) uint64 {
	hash := fnv.New64a()
	write := func(part string) { // with its length, so that parts do not run into each other
		_, _ = hash.Write(strconv.AppendInt(nil, int64(len(part)), 10))
		_, _ = hash.Write([]byte{':'})
		_, _ = hash.Write([]byte(part))
	}
	write(request.GetModel())
	write(request.GetScheduling().GetFairnessKey())
	if key, given := ctx.Value(cacheKey{}).(string); given {
		write("key")
		write(key)
		return max(1, hash.Sum64())
	}
	messages := request.GetConversation().GetMessages()
	if len(messages) == 0 {
		return 0
	}
	for _, message := range messages {
		write(message.GetRole().String())
		write(message.GetContent())
		if message.GetRole() == inferencev1.Role_ROLE_USER {
			break
		}
	}
	return max(1, hash.Sum64())
}
