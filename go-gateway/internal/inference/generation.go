package inference

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/telemetry"
	"triptych.dev/gateway/internal/tracing"
)

// Generation is one or several running calls of Generate, whose choices are numbered through, and what they did so far.
type Generation struct {
	// Usage is to be settled, once Events is closed or the Generation is.
	Usage Usage

	service  *Service
	ctx      context.Context // of the calls
	span     *tracing.Span   // of all of them
	call     Call
	requests []*inferencev1.GenerateRequest
	wanted   demand
	repeated bool

	calls  []*engine.Generation
	events <-chan *inferencev1.GenerateResponse
	model  string
	start  time.Time
	rows   int       // that the choices have
	rowsAt time.Time // when that changed

	failing sync.Once
	failure error // of one of several; set before events is closed
}

// Generate continues prompts, each by a request of its own: of several, all are of one model and have as many choices,
// and where one fails, all end. The caller Observes each event, and Settles the Usage. Its error is a *fault.Fault:
// nothing runs then.
func (s *Service) Generate(ctx context.Context, call Call, requests ...*inferencev1.GenerateRequest) (*Generation, error) {
	g := &Generation{service: s, call: call, requests: requests, model: requests[0].GetModel(), start: time.Now()}
	if err := s.Permit(call.Principal, g.model); err != nil {
		return nil, err
	}
	if call.CheckOnly {
		return nil, ErrChecked
	}
	ctx, g.span = tracing.StartInference(ctx, g.operation())
	g.ctx = call.outgoing(ctx)
	if err := g.admit(); err != nil {
		g.endSpan(err)
		return nil, err
	}
	g.run()
	return g, nil
}

// admit reserves what the calls may cost, if there is time to begin them: how much they will say is not known.
func (g *Generation) admit() error {
	if err := g.service.inTime(g.ctx, &g.call, g.model, nil); err != nil {
		return err
	}
	return g.reserve()
}

// run makes the calls.
func (g *Generation) run() {
	g.calls = nil
	for _, request := range g.requests {
		g.calls = append(g.calls, g.service.Engine.Generate(g.ctx, request))
	}
	g.events = g.calls[0].Events()
	if len(g.calls) > 1 {
		g.events = g.merge(max(1, g.requests[0].GetChoices()))
	}
}

// merge hands on the events of all calls as they come.
func (g *Generation) merge(choices uint32) <-chan *inferencev1.GenerateResponse {
	events := make(chan *inferencev1.GenerateResponse)
	var running sync.WaitGroup
	for i, call := range g.calls {
		running.Go(func() {
			for event := range call.Events() {
				if delta := event.GetDelta(); delta != nil {
					delta.Choice += uint32(i) * choices
				}
				events <- event // somebody reads: Close does, if nobody else
			}
			if _, err := call.Result(); err != nil {
				g.fail(i, err)
			}
		})
	}
	go func() {
		running.Wait()
		close(events)
	}()
	return events
}

// fail ends all calls for the failure of one.
func (g *Generation) fail(i int, err error) {
	g.failing.Do(func() {
		found := *fault.Of(err)
		if param := found.Param; param == "text" || strings.HasPrefix(param, "token_ids") {
			found.Param = fmt.Sprintf("prompts[%d].%s", i, param)
			found.Message = strings.Replace(found.Message, "`"+param+"`", "`"+found.Param+"`", 1)
		}
		g.failure = &found
		g.closeCalls()
	})
}

// closeCalls ends the calls, if they have not ended, and waits until nothing is left of them.
func (g *Generation) closeCalls() {
	var closing sync.WaitGroup
	for _, call := range g.calls {
		closing.Go(call.Close)
	}
	closing.Wait()
}

// Events are what starts the calls and what they say. Closed when all have ended: then there may be others, if they are
// Repeated.
func (g *Generation) Events() <-chan *inferencev1.GenerateResponse { return g.events }

// Close ends what has not ended, and waits until nothing is left of it.
func (g *Generation) Close() {
	g.closeCalls()
	for range g.events {
	}
	g.countRows(-g.rows)
	if g.span != nil {
		_, err := g.sum()
		g.endSpan(err)
	}
}

// countRows counts for how long choices had rows before so many more have some.
func (g *Generation) countRows(more int) {
	now := time.Now()
	g.Usage.Rows += time.Duration(g.rows) * now.Sub(g.rowsAt)
	g.rows, g.rowsAt = g.rows+more, now
}

// Observe takes note of an event.
func (g *Generation) Observe(event *inferencev1.GenerateResponse) {
	g.Usage.Model = g.model
	if started := event.GetStarted(); started != nil {
		g.Usage.PromptTokens += uint64(started.GetPromptTokens())
		g.Usage.CachedTokens += uint64(started.GetCachedTokens())
		g.countRows(int(max(1, g.requests[0].GetChoices())))
	}
	delta := event.GetDelta()
	g.Usage.CompletionTokens += uint64(len(delta.GetTokens()))
	if g.Usage.FirstToken == 0 && g.Usage.CompletionTokens > 0 {
		g.Usage.FirstToken = time.Since(g.start)
	}
	if finish := delta.GetFinish(); finish != nil {
		reason := "stop"
		if finish.GetLength() != nil {
			reason = "length"
		}
		g.Usage.Finishes = append(g.Usage.Finishes, reason)
		g.countRows(-1)
	}
}

// Result says how it went, once Events is closed: the sum, or a *fault.Fault.
func (g *Generation) Result() (*inferencev1.GenerateDone, error) {
	done, err := g.sum()
	if err != nil {
		return nil, withoutOthers(g.call.Principal, g.model, err)
	}
	g.Usage.Model = g.model
	g.Usage.PromptTokens, g.Usage.CachedTokens = uint64(done.GetPromptTokens()), uint64(done.GetCachedTokens())
	g.Usage.CompletionTokens = uint64(done.GetCompletionTokens())
	timings := done.GetTimings()
	g.Usage.Phases = []telemetry.Phase{
		{Name: "tokenize", Took: timings.GetTokenize().AsDuration()},
		{Name: "queue", Took: timings.GetQueue().AsDuration()},
		{Name: "prefill", Took: timings.GetPrefill().AsDuration()},
		{Name: "decode", Took: timings.GetDecode().AsDuration()},
	}
	return done, nil
}

// sum is that of all calls; its timings are those of the one that took longest.
func (g *Generation) sum() (*inferencev1.GenerateDone, error) {
	if g.failure != nil {
		return nil, g.failure
	}
	sum, err := g.calls[0].Result()
	if err != nil || len(g.calls) == 1 {
		return sum, err
	}
	sum = proto.CloneOf(sum)
	for _, call := range g.calls[1:] {
		done, err := call.Result()
		if err != nil {
			return nil, err
		}
		sum.PromptTokens += done.GetPromptTokens()
		sum.CachedTokens += done.GetCachedTokens()
		sum.CompletionTokens += done.GetCompletionTokens()
		if total(done.GetTimings()) > total(sum.GetTimings()) {
			sum.Timings = done.GetTimings()
		}
	}
	return sum, nil
}

func total(timings *inferencev1.GenerateTimings) time.Duration {
	return timings.GetTokenize().AsDuration() + timings.GetQueue().AsDuration() +
		timings.GetPrefill().AsDuration() + timings.GetDecode().AsDuration()
}
