package engine

import (
	"sync"
	"testing"
	"time"

	"triptych.dev/gateway/internal/testkit"
)

// TestAReplicaThatDrainsLosesNothing: it refuses what comes to it between its signal and the gateway's notice.
func TestAReplicaThatDrainsLosesNothing(t *testing.T) {
	e, hotpaths := fleet(t, time.Now, 2)
	began, release := hotpaths[0].Block()
	running := make(chan error, 1)
	e.pool.replicas()[1].work.begin(mostTokens) // so that the other one is asked
	go func() {
		_, err := e.Embed(t.Context(), request())
		running <- err
	}()
	await(t, "the call", began)
	hotpaths[0].Drain()
	before := callsTo(hotpaths[0])
	for range 20 {
		if _, err := e.Embed(t.Context(), request()); err != nil {
			t.Fatal(err)
		}
	}
	if calls := callsTo(hotpaths[1]); calls != 20 || callsTo(hotpaths[0]) != before {
		t.Errorf("%d of 20 calls went to the other one", calls)
	}
	if got := e.pool.replicas()[0].work.calls; got != 1 {
		t.Errorf("%d calls are there", got)
	}
	if retries := e.pool.replicas()[1].retries.Load(); retries != 1 {
		t.Errorf("%d refusals until it was known", retries)
	}
	if ejected(e)[0] {
		t.Error("ejected for what it said itself")
	}
	close(release)
	if err := <-running; err != nil {
		t.Errorf("the call that it had: %v", err)
	}
}

func TestTheEndOfItsLoadSaysThatAReplicaDrains(t *testing.T) {
	e, hotpaths := fleet(t, time.Now, 2)
	var watching sync.WaitGroup
	watching.Go(func() { e.pool.replicas()[0].followLoad(t.Context()) })
	eventually(t, "the drain", func() bool {
		hotpaths[0].Drain()
		return e.pool.replicas()[0].draining.Load()
	})
	watching.Wait()
	for range 20 {
		if _, err := e.Embed(t.Context(), request()); err != nil {
			t.Fatal(err)
		}
	}
	if retries := e.pool.replicas()[1].retries.Load(); retries != 0 {
		t.Errorf("%d calls were refused first", retries)
	}
	hotpaths[1].Drain()
	if _, err := e.Embed(t.Context(), request()); reasonOf(err) != "HOTPATH_UNAVAILABLE" {
		t.Errorf("when both drain: %v", err)
	}
}

// TestWhatADrainCutsOffIsNotMadeAgain: it ends with the same reason as what was not begun, but not at once.
func TestWhatADrainCutsOffIsNotMadeAgain(t *testing.T) {
	clock := &clock{}
	e, hotpaths := fleet(t, clock.now, 2)
	hotpaths[0].SetEmbed(answering(func() error {
		clock.advance(drainRefusal)
		return testkit.RefusalWith(14, "HOTPATH_UNAVAILABLE", "", "the hot path is shutting down", 0)
	}))
	e.pool.replicas()[1].work.begin(mostTokens)
	if _, err := e.Embed(t.Context(), request()); reasonOf(err) != "HOTPATH_UNAVAILABLE" {
		t.Errorf("got %v", err)
	}
	if calls := callsTo(hotpaths[1]); calls != 0 {
		t.Error("made again")
	}
}

func TestAReplicaThatIsBackDrainsNoLonger(t *testing.T) {
	hotpath := testkit.StartHotpath(t, "127.0.0.1:0")
	e := newEngine(t, patience, time.Now, hotpath.Address)
	go e.Watch(t.Context())
	eventually(t, "ready", func() bool { return ready(e) })
	hotpath.Drain()
	eventually(t, "the drain", func() bool { return e.pool.replicas()[0].draining.Load() })
	hotpath.Stop()
	testkit.StartHotpath(t, hotpath.Address)
	eventually(t, "it serves again", func() bool {
		_, err := e.Embed(t.Context(), request())
		return err == nil && !e.pool.replicas()[0].draining.Load()
	})
}
