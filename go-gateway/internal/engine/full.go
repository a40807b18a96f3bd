package engine

import (
	"fmt"
	"strconv"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

const (
	// fullShare is of how much of the time that a key's waiting work takes a refusal stands for the calls that would follow.
	// However fast it goes meanwhile, fifteen sixteenths of it still wait: a queue never runs dry because nobody asked.
	fullShare = 16
	// longestFull is for how long nobody asks at most: work may also be cancelled.
	longestFull = 250 * time.Millisecond
	// mostFull are the lanes of which it is kept in mind; of more, each call asks.
	mostFull = 1024
	// soonestRetry is what hot paths tell at least.
	soonestRetry = 100 * time.Millisecond
)

// lane is what shares of a queue are by: a model's, a fairness key and its class. The zero value is a call that waits in
// no model's queue.
type lane struct {
	model, key string
	priority   inferencev1.Priority
}

func laneOf(model string, scheduling *inferencev1.Scheduling) lane {
	return lane{model, scheduling.GetFairnessKey(), scheduling.GetPriority()}
}

// full is which calls a replica has just refused for lack of room, with what it said of how long the key's work takes. A
// call that is as large would be refused too, for the price of the way there and back. A key is never told so of what
// others have waiting. The zero value knows of none.
type full struct {
	mu      sync.Mutex
	refused map[lane]refusal
}

// refusal is of calls of so many tokens or more.
type refusal struct {
	tokens         int64
	until, retryAt time.Time
}

// note takes note of a call that was refused, if that says anything of the next ones.
func (f *full) note(t task, failure *fault.Fault, now time.Time) {
	if t.lane == (lane{}) || failure.Reason != fault.QueueFull {
		return
	}
	stands := min(waitingOf(failure.Cause)/fullShare, longestFull)
	if stands <= 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if known, is := f.refused[t.lane]; is && known.tokens < t.tokens && now.Before(known.until) {
		return // which says more
	}
	if f.refused == nil {
		f.refused = map[lane]refusal{}
	}
	if len(f.refused) >= mostFull {
		for l, known := range f.refused {
			if !now.Before(known.until) {
				delete(f.refused, l)
			}
		}
		if len(f.refused) >= mostFull {
			return
		}
	}
	f.refused[t.lane] = refusal{t.tokens, now.Add(stands), now.Add(failure.RetryAfter)}
}

// refuses reports whether the replica would refuse a call, as far as is known without asking.
func (f *full) refuses(t task, now time.Time) bool {
	_, does := f.refusal(t, now)
	return does
}

// fault returns what the replica would say to a call; nil where it has to be asked.
func (f *full) fault(t task, now time.Time) *fault.Fault {
	known, does := f.refusal(t, now)
	if !does {
		return nil
	}
	wait := max(known.retryAt.Sub(now), soonestRetry)
	return &fault.Fault{Reason: fault.QueueFull, RetryAfter: wait,
		Message: fmt.Sprintf("the queue is full; retry in %d ms", wait.Milliseconds())}
}

func (f *full) refusal(t task, now time.Time) (known refusal, stands bool) {
	if t.lane == (lane{}) {
		return refusal{}, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	known, is := f.refused[t.lane]
	return known, is && t.tokens >= known.tokens && now.Before(known.until)
}

// forget is for a replica that may be another process.
func (f *full) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.refused)
}

// waitingOf is how long what a key has waiting takes, as told with a refusal; 0 where it is not.
func waitingOf(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if info, is := detail.(*errdetails.ErrorInfo); is && info.GetDomain() == errorDomain {
			milliseconds, _ := strconv.ParseUint(info.GetMetadata()["waiting_ms"], 10, 32)
			return time.Duration(milliseconds) * time.Millisecond
		}
	}
	return 0
}
