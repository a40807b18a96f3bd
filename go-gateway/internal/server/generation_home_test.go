package server

import (
	"fmt"
	"testing"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/testkit"
)

// TestChatsWithOneCacheKeyGoToOneHotPath: without one, twenty conversations go to both.
func TestChatsWithOneCacheKeyGoToOneHotPath(t *testing.T) {
	other := testkit.StartHotpath(t, "127.0.0.1:0")
	other.SetModels(testkit.Model(), testkit.ChatModel())
	g := startGateway(t, func(e *engine.Options, _ *Options) { e.Addresses = append(e.Addresses, other.Address) })
	g.hotpath.SetModels(testkit.Model(), testkit.ChatModel())
	g.awaitConnections()
	g.eventually("both prove that they work", func() bool {
		proven := 0
		for _, replica := range g.Engine.Replicas() {
			for _, model := range replica.Models {
				if model.Name == testkit.ChatModelName && model.Proven {
					proven++
				}
			}
		}
		return proven == 2
	})
	chats := func(more string) (here, there int) {
		hereBefore, thereBefore := len(g.hotpath.Calls()), len(other.Calls())
		for i := range 20 {
			body := `{"model":"smollm2-135m-instruct","messages":[{"role":"user","content":"chat %d"}]%s}`
			if got := g.post("/v1/chat/completions", fmt.Sprintf(body, i, more)); got.status != 200 {
				t.Fatalf("got %d %s", got.status, got.body)
			}
		}
		return len(g.hotpath.Calls()) - hereBefore, len(other.Calls()) - thereBefore
	}
	if here, there := chats(`,"prompt_cache_key":"a document"`); here != 0 && there != 0 {
		t.Errorf("%d and %d of 20 chats with one key", here, there)
	}
	if here, there := chats(""); here == 0 || there == 0 {
		t.Errorf("%d and %d of 20 chats without a key", here, there)
	}
}
