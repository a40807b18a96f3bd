package engine

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

// generate runs a generation to its end.
func generate(t *testing.T, e *Engine) error {
	t.Helper()
	running := e.Generate(t.Context(), generateRequest())
	defer running.Close()
	drain(running)
	_, err := running.Result()
	return err
}

func TestFullLoadIsNoFault(t *testing.T) {
	const slots = 2
	hotpath, clock := testkit.StartHotpath(t, "127.0.0.1:0", grpc.MaxConcurrentStreams(slots)), &clock{}
	hotpath.SetModels(testkit.Model(), testkit.ChatModel())
	e := newEngine(t, patience, clock.now, hotpath.Address)
	e.check(t.Context())
	began, _ := stall(hotpath)
	for range slots {
		running := e.Generate(t.Context(), generateRequest())
		defer running.Close()
		<-running.Events()
		await(t, "start of the work", began)
	}
	hotpath.SetGenerate(nil)
	for range 5 { // far beyond the ready window
		clock.advance(10 * time.Second)
		start := time.Now()
		if e.check(t.Context()); time.Since(start) > patience/2 {
			t.Fatal("a look waits for a stream's slot")
		}
		if models, err := e.Models(); !ready(e) || err != nil || len(models) != 2 {
			t.Fatalf("while all slots are taken: ready %v, %d models, %v, %+v", ready(e), len(models), err, modelStatuses(e))
		}
	}
}

// TestReplicasWithDifferentModels has one with the embedding and the moderation model, and one with the chat and the
// moderation model.
func TestReplicasWithDifferentModels(t *testing.T) {
	left, right, clock := testkit.StartHotpath(t, "127.0.0.1:0"), testkit.StartHotpath(t, "127.0.0.1:0"), &clock{}
	left.SetModels(testkit.Model(), testkit.ModerationModel())
	right.SetModels(testkit.ChatModel(), testkit.ModerationModel())
	absent := testkit.RefusalWith(5, "MODEL_NOT_FOUND", "model", "there is no such model", 0)
	left.SetGenerate(func(*inferencev1.GenerateRequest, testkit.GenerateStream) error { return absent })
	right.SetEmbed(func(context.Context, *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		return nil, absent
	})
	e := newEngine(t, patience, clock.now, left.Address, right.Address)
	eventually(t, "both connections", func() bool { return e.pool.replicas()[0].connected() && e.pool.replicas()[1].connected() })

	for range 20 { // before anything is known of them
		if _, err := e.Embed(t.Context(), request()); err != nil {
			t.Fatal(err)
		}
	}
	e.check(t.Context())
	before := len(left.Calls()) + len(right.Calls())
	for range 20 {
		if _, err := e.Embed(t.Context(), request()); err != nil {
			t.Fatal(err)
		}
		if err := generate(t, e); err != nil {
			t.Fatal(err)
		}
		e.check(t.Context())
		models, err := e.Models()
		if err != nil || len(models) != 3 || models[0].GetName() != testkit.ModelName {
			t.Fatalf("listed: %v, %v", models, err)
		}
	}
	if calls := len(left.Calls()) + len(right.Calls()) - before; calls != 40 {
		t.Errorf("%d calls for 40 requests: some went to the one that lacks the model", calls)
	}

	// Both have the moderation model. One fails, and the other one's word still counts.
	unfit := testkit.RefusalWith(14, "MODEL_NOT_READY", "model", "inference fails", 0)
	left.SetClassify(func(context.Context, *inferencev1.ClassifyRequest) (*inferencev1.ClassifyResponse, error) {
		return nil, unfit
	})
	classify := func() error {
		_, err := e.Classify(t.Context(), &inferencev1.ClassifyRequest{
			Model: testkit.ModerationModelName, Texts: []string{"a"}, Scheduling: request().GetScheduling(),
		})
		return err
	}
	for range 20 {
		if err := classify(); err != nil {
			t.Fatal(err)
		}
		if e.check(t.Context()); !ready(e) {
			t.Fatalf("not ready, though the other replica serves the model: %+v", modelStatuses(e))
		}
	}

	// One that is away is away: its model is not unknown.
	right.Stop()
	e.check(t.Context())
	if err := generate(t, e); reasonOf(err) != "HOTPATH_UNAVAILABLE" {
		t.Errorf("a model of the replica that is away: %v", err)
	}
	if err := classify(); reasonOf(err) != "MODEL_NOT_READY" {
		t.Errorf("a model whose only replica left has failed it: %v", err)
	}
	left.SetClassify(nil)
	if err := classify(); err != nil {
		t.Errorf("a model of both: %v", err)
	}
	if _, err := e.Embed(t.Context(), request()); err != nil {
		t.Errorf("a model of the other replica: %v", err)
	}
}

func TestAStreamThatIsNotClosedAfterItsSumIsNotWaitedFor(t *testing.T) {
	hotpath := testkit.StartHotpath(t, "127.0.0.1:0")
	hotpath.SetGenerate(func(_ *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
		if err := testkit.SendDone(stream, 1, 1); err != nil {
			return err
		}
		<-stream.Context().Done()
		return nil
	})
	e := newEngine(t, time.Hour, time.Now, hotpath.Address)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := generate(t, e); err != nil {
			t.Error(err)
		}
	}()
	await(t, "end of the stream", ended)
}
