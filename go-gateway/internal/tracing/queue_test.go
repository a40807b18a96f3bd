package tracing

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// withQueue runs a test of a queue with room for so many spans, whose batches have 10 s each.
func withQueue(t *testing.T, room int, exporter *sent, test func(t *testing.T, q *queue, seen *counts)) {
	synctest.Test(t, func(t *testing.T) {
		seen := &counts{}
		q := newQueue(exporter, seen, room, 10*time.Second)
		test(t, q, seen)
		if !exporter.ended {
			t.Error("the exporter was not ended")
		}
	})
}

func shut(t *testing.T, q *queue) {
	t.Helper()
	if err := q.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSpansAreSentWithinASecondOrInFullBatches(t *testing.T) {
	exporter := &sent{}
	withQueue(t, 2*maxBatch, exporter, func(t *testing.T, q *queue, seen *counts) {
		q.endSpans(3)
		time.Sleep(sendEvery)
		synctest.Wait()
		seen.check(t, 3, 0, 0, 0)
		q.endSpans(maxBatch)
		synctest.Wait() // at once
		seen.check(t, maxBatch+3, 0, 0, 0)
		q.endSpans(maxBatch + 1)
		shut(t, q)
		seen.check(t, 2*maxBatch+4, 0, 0, 0)
	})
	if !slices.Equal(exporter.batches, []int{3, maxBatch, maxBatch, 1}) {
		t.Errorf("batches of %v", exporter.batches)
	}
}

func TestWhoEndsASpanNeverWaitsForACollector(t *testing.T) {
	withQueue(t, 100, &sent{answer: hangs}, func(t *testing.T, q *queue, seen *counts) {
		q.endSpans(1)
		time.Sleep(sendEvery)
		synctest.Wait() // the collector has it, and does not answer
		began := time.Now()
		q.endSpans(107)
		if took := time.Since(began); took != 0 {
			t.Errorf("waited for %v", took)
		}
		seen.check(t, 0, 7, 0, 0)
		shut(t, q)
	})
}

func TestAtTheEndACollectorThatHangsHasTheTimeOfOneBatch(t *testing.T) {
	withQueue(t, 4*maxBatch, &sent{answer: hangs}, func(t *testing.T, q *queue, seen *counts) {
		q.endSpans(2*maxBatch + 5)
		synctest.Wait()
		began := time.Now()
		shut(t, q)
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("the end took %v", took)
		}
		q.endSpans(1) // after the end
		if lost := seen.dropped[NotExported] + seen.dropped[Ended]; seen.exported != 0 || lost != 2*maxBatch+6 {
			t.Errorf("%d exported, dropped %v", seen.exported, seen.dropped)
		}
	})
}

func TestTroubleIsToldOnceAndSoIsItsEnd(t *testing.T) {
	errAway := errors.New("away")
	var away error
	withQueue(t, 10, &sent{answer: func(context.Context) error { return away }}, func(t *testing.T, q *queue, seen *counts) {
		for _, away = range []error{nil, errAway, errAway, nil, nil} {
			q.endSpans(1)
			time.Sleep(sendEvery)
			synctest.Wait()
		}
		shut(t, q)
		seen.check(t, 3, 0, 2, 0)
		if !slices.Equal(seen.troubles, []error{errAway, nil}) {
			t.Errorf("told %v", seen.troubles)
		}
	})
}
