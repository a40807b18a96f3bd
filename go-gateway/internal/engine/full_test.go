package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

// waiting is what keys have waiting in these tests; a refusal stands for stands.
const (
	waiting = 1600 * time.Millisecond
	stands  = waiting / fullShare
)

func refused(tokens uint64, key string) *inferencev1.EmbedRequest {
	asked := request()
	asked.Scheduling.FairnessKey, asked.Scheduling.MaxCharge = key, tokens
	return asked
}

func TestWhatWouldBeRefusedIsNotAsked(t *testing.T) {
	hotpath, clock := testkit.StartHotpath(t, "127.0.0.1:0"), &clock{}
	hotpath.SetEmbed(failing(testkit.FullQueue(waiting, 700*time.Millisecond)))
	e := newEngine(t, patience, clock.now, hotpath.Address)
	asks := func(what string, asked *inferencev1.EmbedRequest, want int) {
		t.Helper()
		before := len(hotpath.Calls())
		_, err := e.Embed(t.Context(), asked)
		if failure := fault.Of(err); failure.Reason != fault.QueueFull || failure.RetryAfter <= 0 {
			t.Errorf("%s: %+v", what, failure)
		}
		if calls := len(hotpath.Calls()) - before; calls != want {
			t.Errorf("%s: %d calls, want %d", what, calls, want)
		}
	}
	asks("the first one", refused(100, "acme"), 1)
	asks("one that is as large", refused(100, "acme"), 0)
	asks("a larger one", refused(1000, "acme"), 0)
	asks("another key's", refused(100, "globex"), 1)
	batch := refused(100, "acme")
	batch.Scheduling.Priority = inferencev1.Priority_PRIORITY_BATCH
	asks("one of another class", batch, 1)
	asks("a smaller one, which may have room", refused(99, "acme"), 1)
	asks("one that is as large as that", refused(99, "acme"), 0)
	other := refused(100, "acme")
	other.Model = "another"
	asks("one for another model", other, 1)
	clock.advance(stands - time.Millisecond)
	asks("just before time is up", refused(99, "acme"), 0)
	clock.advance(time.Millisecond)
	asks("then", refused(99, "acme"), 1)
	e.pool.replicas()[0].full.forget()
	asks("where it may be another process", refused(99, "acme"), 1)
	text := &inferencev1.TokenizeRequest{Model: testkit.ModelName, Texts: []string{strings.Repeat("a", 1<<16)}, Scheduling: refused(0, "acme").Scheduling}
	if _, err := e.Tokenize(t.Context(), text); err != nil {
		t.Errorf("what waits in no model's queue: %v", err)
	}
}

func TestTheDelayIsWhatIsLeftOfIt(t *testing.T) {
	var f full
	now, asked := time.Unix(1_800_000_000, 0), task{tokens: 10, lane: lane{model: "m", key: "k"}}
	f.note(asked, fullFault(waiting, 300*time.Millisecond), now)
	for elapsed, want := range map[time.Duration]time.Duration{
		0: 300 * time.Millisecond, 50 * time.Millisecond: 250 * time.Millisecond, 99 * time.Millisecond: 201 * time.Millisecond,
	} {
		failure := f.fault(asked, now.Add(elapsed))
		if message := fmt.Sprintf("the queue is full; retry in %d ms", want.Milliseconds()); failure.RetryAfter != want || failure.Message != message {
			t.Errorf("after %v: %+v", elapsed, failure)
		}
	}
	f.note(asked, fullFault(time.Hour, 20*time.Millisecond), now.Add(time.Second))
	if failure := f.fault(asked, now.Add(time.Second+longestFull-1)); failure.RetryAfter != soonestRetry {
		t.Errorf("got %+v", failure)
	}
	if f.refuses(asked, now.Add(time.Second+longestFull)) {
		t.Error("nobody asks for longer than that, whatever waits")
	}
}

func TestRefusalsThatSayNothingOfTheNextCall(t *testing.T) {
	now, asked := time.Unix(1_800_000_000, 0), task{tokens: 10, lane: lane{model: "m", key: "k"}}
	for what, failure := range map[string]*fault.Fault{
		"a hot path that does not tell":    {Reason: fault.QueueFull, Cause: testkit.RefusalWith(14, "QUEUE_FULL", "", "full", time.Second)},
		"a key that has hardly anything":   fullFault(time.Millisecond/2, time.Second),
		"what is no number":                {Reason: fault.QueueFull, Cause: fmt.Errorf("no status")},
		"a refusal for some other reason":  {Reason: fault.ModelNotReady, Cause: testkit.FullQueue(waiting, time.Second)},
		"one that this gateway made up":    {Reason: fault.QueueFull},
		"what a broken hot path may claim": fullFault(-time.Second, time.Second),
	} {
		var f full
		f.note(asked, failure, now)
		if f.refuses(asked, now) {
			t.Errorf("%s: is taken for one that stands", what)
		}
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	var f full
	now := time.Unix(1_800_000_000, 0)
	of := func(i int) task { return task{tokens: 10, lane: lane{model: "m", key: fmt.Sprint(i)}} }
	for i := range mostFull + 10 {
		f.note(of(i), fullFault(waiting, time.Second), now)
	}
	if len(f.refused) != mostFull || f.refuses(of(mostFull), now) || !f.refuses(of(0), now) {
		t.Errorf("%d are remembered", len(f.refused))
	}
	f.note(of(mostFull), fullFault(waiting, time.Second), now.Add(stands))
	if len(f.refused) != 1 || !f.refuses(of(mostFull), now.Add(stands)) {
		t.Errorf("%d are remembered, of which the old ones say nothing any more", len(f.refused))
	}
}

func TestACallGoesWhereThereIsRoom(t *testing.T) {
	clock := &clock{}
	e, hotpaths := fleet(t, clock.now, 3)
	for _, hotpath := range hotpaths[:2] {
		hotpath.SetEmbed(failing(testkit.FullQueue(waiting, time.Second)))
	}
	for range 10 { // whichever are asked first
		_, _ = e.Embed(t.Context(), request())
	}
	before := callsTo(hotpaths[:2]...)
	if before > 2 {
		t.Errorf("%d calls to those that had refused their like", before)
	}
	for i, r := range e.pool.replicas()[:2] {
		r.full.note(task{tokens: tokensOf(request()), lane: laneOf(testkit.ModelName, request().GetScheduling())},
			fullFault(waiting, time.Second), clock.now())
		e.pool.replicas()[2].work.begin(int64(1000 * (i + 1))) // and much else to do
	}
	for range 10 {
		if _, err := e.Embed(t.Context(), request()); err != nil {
			t.Errorf("got %v", err)
		}
	}
	if calls := callsTo(hotpaths[:2]...); calls != before {
		t.Errorf("%d calls more to those that have no room", calls-before)
	}
	e.pool.replicas()[2].ejection.out.Store(true)
	if _, err := e.Embed(t.Context(), request()); reasonOf(err) != "QUEUE_FULL" {
		t.Errorf("one that is ejected takes what others have no room for: %v", err)
	}
}

func fullFault(waiting, retry time.Duration) *fault.Fault {
	return &fault.Fault{Reason: fault.QueueFull, RetryAfter: retry, Cause: testkit.FullQueue(waiting, retry)}
}

// TestAQueueNeverRunsDryBecauseNobodyAsks: a queue of one key that is offered ten times what it does, in texts of any
// length, behind a gateway that asks only where it has to. Virtual time, of which each step is a batch.
func TestAQueueNeverRunsDryBecauseNobodyAsks(t *testing.T) {
	const (
		share, batch, step = 50_000, 1_000, 50 * time.Millisecond // a second and a bit more than 2 in the queue
		offered            = 10 * batch
	)
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 0))
		var f full
		var queue []int64
		held, asked, sent, least := int64(0), 0, 0, int64(share)
		now := time.Unix(1_800_000_000, 0)
		for i := range 1000 {
			for tokens := int64(0); tokens < offered; {
				call := task{tokens: 1 + random.Int64N(400), lane: lane{model: "m", key: "k"}}
				tokens += call.tokens
				sent++
				at := now.Add(step * time.Duration(tokens) / offered)
				if f.refuses(call, at) {
					continue
				}
				asked++
				if held+call.tokens > share {
					takes := step * time.Duration(held) / batch
					f.note(call, fullFault(takes, 100*time.Millisecond), at)
					continue
				}
				queue, held = append(queue, call.tokens), held+call.tokens
			}
			now = now.Add(step)
			for done := int64(0); done < batch && len(queue) > 0; queue = slices.Delete(queue, 0, 1) {
				done, held = done+queue[0], held-queue[0]
			}
			if i > 10 {
				least = min(least, held)
			}
		}
		if least < share*(fullShare-2)/fullShare {
			t.Errorf("seed %d: only %d of %d tokens waited once", seed, least, share)
		}
		if asked*4 > sent {
			t.Errorf("seed %d: %d of %d calls were made, to have a tenth of them taken", seed, asked, sent)
		}
	}
}
