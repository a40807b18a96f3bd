package quota

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tiny  = Limit{PerMinute: 20, Burst: 20} // one request every 3 s
)

func takeAll(t *testing.T, q *Requests, limit Limit, now time.Time) {
	t.Helper()
	for i := range limit.Burst {
		if !q.Take("tiny", limit, now).Allowed {
			t.Fatalf("request %d of %d was refused", i+1, limit.Burst)
		}
	}
}

func TestTakeTellsWhatIsLeft(t *testing.T) {
	q := NewRequests()
	for i := range 20 {
		want := Decision{Allowed: true, Remaining: 19 - i, Reset: time.Duration(i+1) * 3 * time.Second}
		if got := q.Take("tiny", tiny, start); got != want {
			t.Fatalf("request %d: got %+v, want %+v", i+1, got, want)
		}
	}
	want := Decision{Reset: time.Minute, RetryAfter: 3 * time.Second}
	for range 3 { // refused requests cost nothing: the answer stays
		if got := q.Take("tiny", tiny, start); got != want {
			t.Fatalf("over the limit: got %+v, want %+v", got, want)
		}
	}
}

func TestTakeOnEachSideOfTheBoundary(t *testing.T) {
	for _, limit := range []Limit{tiny, {PerMinute: 7, Burst: 7}, {PerMinute: 1, Burst: 1}, {PerMinute: 600, Burst: 5}, {PerMinute: 60, Burst: 120}} {
		t.Run(fmt.Sprintf("%+v", limit), func(t *testing.T) {
			q := NewRequests()
			takeAll(t, q, limit, start)
			wait := q.Take("tiny", limit, start).RetryAfter
			if q.Take("tiny", limit, start.Add(wait-time.Nanosecond)).Allowed {
				t.Fatal("allowed 1 ns too early")
			}
			if !q.Take("tiny", limit, start.Add(wait)).Allowed {
				t.Fatal("refused at the moment that was promised")
			}
			if q.Take("tiny", limit, start.Add(wait)).Allowed {
				t.Fatal("one request was given back, and two were allowed")
			}
		})
	}
}

func TestTakeAfterResetAllowsAWholeBurst(t *testing.T) {
	q := NewRequests()
	takeAll(t, q, tiny, start)
	later := start.Add(q.Take("tiny", tiny, start).Reset)
	takeAll(t, q, tiny, later)
	if q.Take("tiny", tiny, later).Allowed {
		t.Fatal("more than a burst was allowed")
	}
}

func TestWhatIsReturnedWasNeverTaken(t *testing.T) {
	q, untouched := NewRequests(), NewRequests()
	takeAll(t, q, tiny, start)
	for range tiny.Burst / 2 {
		q.Refund("tiny", tiny)
	}
	for range tiny.Burst / 2 {
		untouched.Take("tiny", tiny, start)
	}
	if got, want := q.Take("tiny", tiny, start), untouched.Take("tiny", tiny, start); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	q.Refund("nobody", tiny)
	if got := q.Take("nobody", tiny, start); got.Remaining != 19 {
		t.Errorf("a full bucket holds more than a burst: %+v", got)
	}
}

func TestTenantsDoNotShareABucket(t *testing.T) {
	q := NewRequests()
	takeAll(t, q, tiny, start)
	if got := q.Take("acme", tiny, start); !got.Allowed || got.Remaining != 19 {
		t.Fatalf("another tenant got %+v", got)
	}
}

func TestNoOverAdmissionWhenRequestsRace(t *testing.T) {
	q := NewRequests()
	limit := Limit{PerMinute: 1000, Burst: 1000}
	var admitted atomic.Int64
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for range 500 {
				if q.Take("acme", limit, start).Allowed {
					admitted.Add(1)
				}
			}
		})
	}
	group.Wait()
	if admitted.Load() != 1000 {
		t.Fatalf("%d requests were admitted at one moment, of a burst of 1000", admitted.Load())
	}
}

func TestMemoryFollowsTheActiveTenants(t *testing.T) {
	q := NewRequests()
	for i := range 100 * minSweepSize {
		now := start.Add(time.Duration(i) * time.Second)
		q.Take(fmt.Sprint("tenant-", i), tiny, now)
	}
	if len(q.full) > minSweepSize {
		t.Fatalf("%d buckets are kept, though 3 tenants were active in the last seconds", len(q.full))
	}
}
