package engine

import (
	"testing"
	"time"

	"triptych.dev/gateway/internal/testkit"
)

func TestTheRetryBudget(t *testing.T) {
	var b retryBudget
	now := time.Unix(1_800_000_000, 0)
	granted := func() (n int) {
		for b.take(now) {
			if n++; n > 10*retryBurst {
				t.Fatal("no bound")
			}
		}
		return n
	}
	if got := granted(); got != retryBurst {
		t.Errorf("%d at once", got)
	}
	for range 100 {
		b.earn()
	}
	if got := granted(); got < 9 || got > 10 {
		t.Errorf("%d for 100 calls", got)
	}
	now = now.Add(5 * time.Second)
	if got := granted(); got < 5*retriesPerSecond || got > 5*retriesPerSecond+1 {
		t.Errorf("%d in 5 s without calls", got)
	}
	for range 10_000 {
		b.earn()
	}
	now = now.Add(time.Hour)
	if got := granted(); got != retryBurst {
		t.Errorf("%d after a long time: more is kept than may be spent at once", got)
	}
}

func TestRetriesAreInsideABudget(t *testing.T) {
	clock := &clock{}
	e, hotpaths := fleet(t, clock.now, 2)
	hotpaths[0].SetEmbed(failing(testkit.RefusalWith(14, "MODEL_NOT_READY", "model", "inference fails", 0)))
	e.pool.replicas()[1].work.begin(mostTokens) // so that the other one is asked first
	const calls = 200
	refused := 0
	for range calls {
		for _, r := range e.pool.replicas() { // else what failed is not asked again
			r.readiness.succeeded(testkit.ModelName, clock.now())
		}
		if _, err := e.Embed(t.Context(), request()); err != nil {
			refused++
		}
	}
	if retries := callsTo(hotpaths[1]); retries < retryBurst || retries > retryBurst+calls*retryShare+1 || retries+refused != calls {
		t.Errorf("%d retries and %d refusals of %d calls", retries, refused, calls)
	}
}
