package engine

import (
	"context"
	"testing"
	"time"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

func generateRequest() *inferencev1.GenerateRequest {
	return &inferencev1.GenerateRequest{
		Model:      testkit.ChatModelName,
		Prompt:     &inferencev1.GenerateRequest_Text{Text: "a b c"},
		Scheduling: &inferencev1.Scheduling{FairnessKey: "acme", Priority: inferencev1.Priority_PRIORITY_INTERACTIVE},
	}
}

// drain reads a generation to its end and returns what it said.
func drain(g *Generation) (said string) {
	for event := range g.Events() {
		said += event.GetDelta().GetText()
	}
	return said
}

func TestAGenerationIsToldInOrder(t *testing.T) {
	hotpath := testkit.StartHotpath(t, "127.0.0.1:0")
	e := newEngine(t, patience, time.Now, hotpath.Address)
	running := e.Generate(Outgoing(t.Context(), "req-1", "00-1-2-00"), generateRequest())
	defer running.Close()
	said := drain(running)
	done, err := running.Result()
	if err != nil || said != "Hello from the fake." || done.GetPromptTokens() != 3 || done.GetCompletionTokens() != 6 {
		t.Errorf("got %q, %v, %v", said, done, err)
	}
	if carried := hotpath.Calls()[0].Metadata; carried.Get("x-request-id")[0] != "req-1" {
		t.Errorf("got %v", carried)
	}
}

// stall makes Generate say one word and then wait for its caller to go away.
func stall(hotpath *testkit.Hotpath) (began, left chan struct{}) {
	began, left = make(chan struct{}, 100), make(chan struct{}, 100)
	hotpath.SetGenerate(func(_ *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
		if err := testkit.SendDelta(stream, &inferencev1.GenerateDelta{Text: "a"}); err != nil {
			return err
		}
		began <- struct{}{}
		<-stream.Context().Done()
		left <- struct{}{}
		return stream.Context().Err()
	})
	return began, left
}

func TestClosingAGenerationEndsItsWork(t *testing.T) {
	hotpath := testkit.StartHotpath(t, "127.0.0.1:0")
	began, left := stall(hotpath)
	e := newEngine(t, patience, time.Now, hotpath.Address)
	running := e.Generate(t.Context(), generateRequest())
	await(t, "start of the work", began) // nobody reads what it says
	running.Close()
	await(t, "end of the work", left)
	running.Close() // twice does no harm
}

func TestHowAGenerationMayEnd(t *testing.T) {
	for name, c := range map[string]struct {
		timeout  time.Duration
		generate testkit.GenerateFunc // nil: stall
		want     string
		cancels  bool
	}{
		"the caller goes away": {patience, nil, "CANCELLED", true},
		"out of time":          {50 * time.Millisecond, nil, "DEADLINE_EXCEEDED", false},
		"no sum": {patience, func(_ *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
			return testkit.SendDelta(stream, &inferencev1.GenerateDelta{Text: "a"})
		}, "INTERNAL", false},
		"refused in mid-stream": {patience, func(_ *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
			if err := testkit.SendDelta(stream, &inferencev1.GenerateDelta{Text: "a"}); err != nil {
				return err
			}
			return testkit.RefusalWith(10, "SLOW_READER", "", "slow", 0)
		}, "SLOW_READER", false},
		"a failure after the sum": {patience, func(_ *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
			if err := testkit.SendDone(stream, 1, 1); err != nil {
				return err
			}
			return testkit.RefusalWith(13, "INTERNAL", "", "too late to matter", 0)
		}, "OK", false},
	} {
		t.Run(name, func(t *testing.T) {
			hotpath := testkit.StartHotpath(t, "127.0.0.1:0")
			stall(hotpath)
			if c.generate != nil {
				hotpath.SetGenerate(c.generate)
			}
			e := newEngine(t, c.timeout, time.Now, hotpath.Address)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			running := e.Generate(ctx, generateRequest())
			defer running.Close()
			for range running.Events() {
				if c.cancels {
					cancel()
				}
			}
			if _, err := running.Result(); reasonOf(err) != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestACrashEndsEveryGeneration(t *testing.T) {
	hotpath := testkit.StartHotpath(t, "127.0.0.1:0")
	stall(hotpath)
	e := newEngine(t, patience, time.Now, hotpath.Address)
	const streams = 8
	var running []*Generation
	for range streams {
		g := e.Generate(t.Context(), generateRequest())
		defer g.Close()
		<-g.Events()
		running = append(running, g)
	}
	hotpath.Stop()
	for _, g := range running {
		drain(g)
		if _, err := g.Result(); reasonOf(err) != "HOTPATH_UNAVAILABLE" || !fault.Of(err).CutOff {
			t.Errorf("got %v", err)
		}
	}
}

func TestAModelOfEachTaskIsProvenByItsOwnWork(t *testing.T) {
	hotpath, clock := testkit.StartHotpath(t, "127.0.0.1:0"), &clock{}
	hotpath.SetModels(testkit.Model(), testkit.ModerationModel(), testkit.ChatModel())
	e := newEngine(t, patience, clock.now, hotpath.Address)
	e.check(t.Context())
	if statuses := modelStatuses(e); !ready(e) || len(statuses) != 3 || hotpath.Canaries() != 3 {
		t.Errorf("after a check: %v, %d canaries", statuses, hotpath.Canaries())
	}
	unfit := testkit.RefusalWith(14, "MODEL_NOT_READY", "model", "inference fails", 0)
	hotpath.SetGenerate(func(*inferencev1.GenerateRequest, testkit.GenerateStream) error { return unfit })
	hotpath.SetClassify(func(context.Context, *inferencev1.ClassifyRequest) (*inferencev1.ClassifyResponse, error) {
		return nil, unfit
	})
	clock.advance(5 * time.Second)
	e.check(t.Context())
	for _, status := range modelStatuses(e) {
		if wanted := status.Name == testkit.ModelName; status.Proven != wanted {
			t.Errorf("%s is proven: %v", status.Name, status.Proven)
		}
	}
	hotpath.SetGenerate(nil)
	hotpath.SetClassify(nil)
	e.check(t.Context())
	if !ready(e) {
		t.Error("not ready though all models work again")
	}
}

func TestARunningStreamProvesItsModel(t *testing.T) {
	hotpath, clock := testkit.StartHotpath(t, "127.0.0.1:0"), &clock{}
	hotpath.SetModels(testkit.ChatModel())
	next := make(chan struct{})
	hotpath.SetGenerate(func(_ *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
		for range next {
			if err := testkit.SendDelta(stream, &inferencev1.GenerateDelta{Text: "a"}); err != nil {
				return err
			}
		}
		return testkit.SendDone(stream, 1, 1)
	})
	e := newEngine(t, patience, clock.now, hotpath.Address)
	running := e.Generate(t.Context(), generateRequest())
	defer running.Close()
	for range 10 { // 10 steps of 4 s: no 5 s without a success
		clock.advance(4 * time.Second)
		next <- struct{}{}
		<-running.Events()
		e.check(t.Context())
	}
	close(next)
	if canaries := hotpath.Canaries(); canaries != 0 || !ready(e) {
		t.Errorf("%d canaries beside a running stream; ready: %v", canaries, ready(e))
	}
	drain(running)
}

func TestAGenerationThatBeginsAnewElsewhereStartsOnce(t *testing.T) {
	unready, ready := testkit.StartHotpath(t, "127.0.0.1:0"), testkit.StartHotpath(t, "127.0.0.1:0")
	for _, hotpath := range []*testkit.Hotpath{unready, ready} {
		hotpath.SetModels(testkit.ChatModel())
	}
	unready.SetGenerate(func(_ *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
		if err := testkit.SendStarted(stream, 3); err != nil {
			return err
		}
		return testkit.RefusalWith(14, "MODEL_NOT_READY", "model", "it died", 0)
	})
	e := newEngine(t, patience, time.Now, unready.Address, ready.Address)
	eventually(t, "both connections", func() bool { return e.pool.replicas()[0].connected() && e.pool.replicas()[1].connected() })
	e.pool.replicas()[1].work.begin(mostTokens) // so that the other one is asked first
	running := e.Generate(t.Context(), generateRequest())
	starts := 0
	for event := range running.Events() {
		if event.GetStarted() != nil {
			starts++
		}
	}
	if _, err := running.Result(); err != nil || starts != 1 {
		t.Errorf("%d starts, %v", starts, err)
	}
	if len(unready.Calls()) != 1 || len(ready.Calls()) != 1 {
		t.Errorf("%d and %d calls", len(unready.Calls()), len(ready.Calls()))
	}
}
