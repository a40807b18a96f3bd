package engine

import (
	"context"
	"fmt"
	"testing"
	"time"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

// conversation is a request with its instructions, and then what the user and the model said, in turn.
func conversation(tenant string, said ...string) *inferencev1.GenerateRequest {
	messages := []*inferencev1.Message{{Role: inferencev1.Role_ROLE_SYSTEM, Content: "Be brief."}}
	roles := []inferencev1.Role{inferencev1.Role_ROLE_USER, inferencev1.Role_ROLE_ASSISTANT}
	for i, content := range said {
		messages = append(messages, &inferencev1.Message{Role: roles[i%2], Content: content})
	}
	request := generateRequest()
	request.Prompt = &inferencev1.GenerateRequest_Conversation{
		Conversation: &inferencev1.Conversation{Messages: messages},
	}
	request.Scheduling.FairnessKey = tenant
	return request
}

func TestWhatBelongsTogether(t *testing.T) {
	ctx := t.Context()
	keyed := func(key string) context.Context { return WithCacheKey(ctx, key) }
	first := homeOf(ctx, conversation("acme", "hello"))
	for what, c := range map[string]struct {
		home uint64
		same bool
	}{
		"its next turn":        {homeOf(ctx, conversation("acme", "hello", "hi", "and?")), true},
		"another tenant's":     {homeOf(ctx, conversation("zenith", "hello")), false},
		"another conversation": {homeOf(ctx, conversation("acme", "hello!")), false},
		"an empty key":         {homeOf(keyed(""), conversation("acme", "hello")), true},
		"a key":                {homeOf(keyed("k"), conversation("acme", "hello")), false},
	} {
		if (c.home == first) != c.same || c.home == 0 {
			t.Errorf("%s: %x beside %x", what, c.home, first)
		}
	}
	one, other := homeOf(keyed("k"), conversation("acme", "a")), homeOf(keyed("k"), conversation("acme", "b"))
	if one != other {
		t.Error("the same key is of two homes")
	}
	if one == homeOf(keyed("k"), conversation("zenith", "a")) || one == homeOf(keyed("l"), conversation("acme", "a")) {
		t.Error("another tenant's key, or another key, is of the same home")
	}
	if got := homeOf(ctx, generateRequest()); got != 0 {
		t.Error("a text alone has a home")
	}
}

func TestAConversationReturnsToItsReplica(t *testing.T) {
	e, hotpaths := fleet(t, time.Now, 3)
	for _, hotpath := range hotpaths {
		hotpath.SetModels(testkit.ChatModel())
	}
	e.check(t.Context())
	say := func(ctx context.Context, request *inferencev1.GenerateRequest) (place int) {
		t.Helper()
		before := make([]int, len(hotpaths))
		for i, hotpath := range hotpaths {
			before[i] = callsTo(hotpath)
		}
		running := e.Generate(ctx, request)
		drain(running)
		if _, err := running.Result(); err != nil {
			t.Fatal(err)
		}
		for i, hotpath := range hotpaths {
			if callsTo(hotpath) > before[i] {
				return i
			}
		}
		t.Fatal("no call")
		return 0
	}
	homes := map[int]int{}
	for i := range 30 {
		hello := fmt.Sprint("hello ", i)
		first := say(t.Context(), conversation("acme", hello))
		homes[first]++
		for range 3 {
			if again := say(t.Context(), conversation("acme", hello, "hi", "more")); again != first {
				t.Fatalf("conversation %d went from replica %d to %d", i, first, again)
			}
		}
	}
	if len(homes) != 3 {
		t.Errorf("homes of 30 conversations: %v", homes)
	}
	keyed := WithCacheKey(t.Context(), "a document")
	first := say(keyed, conversation("acme", "first question"))
	for i := range 10 {
		if again := say(keyed, conversation("acme", fmt.Sprint("question ", i))); again != first {
			t.Fatalf("question %d went to replica %d, not %d", i, again, first)
		}
	}
	e.pool.replicas()[first].work.begin(homeLoadTokens + 1000)
	if again := say(keyed, conversation("acme", "one more")); again == first {
		t.Error("it went to a replica that is overloaded")
	}
}
