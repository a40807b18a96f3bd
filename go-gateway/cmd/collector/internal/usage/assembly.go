package usage

import (
	"container/list"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// assembly keeps spans until the requests that they are parts of are whole. They come in any order, from two services, twice,
// or never. A request's own span ends after all that the gateway has below it, so what is waited for after it is what a hot
// path sends by itself; all that there is then is what the request used.
//
// Not safe for use by several goroutines.
type assembly struct {
	wait, patience time.Duration
	maxSpans       int

	traces map[pcommon.TraceID]*trace
	quiet  *list.List // of traces: the one that has been quiet for the longest time is in front
	spans  int        // of all
	due    *list.List // of requests in the order of their times: each waits equally long
	seen   *seen

	discarded func(why string, spans int)
}

type trace struct {
	id    pcommon.TraceID
	last  time.Time // when a span came
	place *list.Element
	spans map[[8]byte]*span
	below map[[8]byte]map[[8]byte]*span // the same ones, by their parents
	open  int                           // requests among them
}

// due is when a request is taken to be whole.
type due struct {
	trace *trace
	span  *span
	at    time.Time
}

// whole is a request with the spans below it.
type whole struct {
	trace pcommon.TraceID
	own   *span
	below []*span
}

// Why spans are not in a record.
const (
	duplicate = "duplicate" // it has come before
	unclaimed = "unclaimed" // of no request, or of one whose own span has not come, or whose record had been made
	invalid   = "invalid"   // it has no id
)

func newAssembly(config *Config, discarded func(why string, spans int)) *assembly {
	return &assembly{
		wait: config.Wait, patience: config.Patience, maxSpans: config.MaxSpans,
		traces: map[pcommon.TraceID]*trace{}, quiet: list.New(), due: list.New(), seen: newSeen(config.Remember, config.MaxRequests),
		discarded: discarded,
	}
}

// add takes a span in. Where there is no room for it, it returns the requests of the trace that has been quiet for the longest
// time, as far as they have come.
func (a *assembly) add(id pcommon.TraceID, s *span, now time.Time) (early []whole) {
	if id.IsEmpty() || s.id == [8]byte{} {
		a.discarded(invalid, 1)
		return nil
	}
	of := a.traces[id]
	if of != nil && of.spans[s.id] != nil || s.request != nil && !a.seen.add(requestKeyOf{id, s.id}, now) {
		a.discarded(duplicate, 1)
		return nil
	}
	if a.spans == a.maxSpans {
		early = a.takeAll(a.quiet.Front().Value.(*trace))
		of = a.traces[id] // it may have been that one
	}
	if of == nil {
		of = &trace{id: id, spans: map[[8]byte]*span{}, below: map[[8]byte]map[[8]byte]*span{}}
		of.place = a.quiet.PushBack(of)
		a.traces[id] = of
	}
	of.last = now
	a.quiet.MoveToBack(of.place)
	of.spans[s.id] = s
	siblings := of.below[s.parent]
	if siblings == nil {
		siblings = map[[8]byte]*span{}
		of.below[s.parent] = siblings
	}
	siblings[s.id] = s
	a.spans++
	if s.request != nil {
		of.open++
		s.due = a.due.PushBack(due{of, s, now.Add(a.wait)})
	}
	return early
}

// take returns the requests whose time has come, and forgets spans that no request came for.
func (a *assembly) take(now time.Time) []whole {
	var found []whole
	for first := a.due.Front(); first != nil && !first.Value.(due).at.After(now); first = a.due.Front() {
		found = append(found, a.collect(first.Value.(due)))
	}
	for next := a.quiet.Front(); next != nil; {
		of := next.Value.(*trace)
		if now.Sub(of.last) < a.patience {
			break
		}
		next = next.Next()
		if of.open == 0 {
			a.forget(of)
		}
	}
	return found
}

// rest returns all requests that there are. Nothing is left.
func (a *assembly) rest() []whole {
	var found []whole
	for a.quiet.Len() > 0 {
		found = append(found, a.takeAll(a.quiet.Front().Value.(*trace))...)
	}
	return found
}

// takeAll returns a trace's requests, and forgets it.
func (a *assembly) takeAll(of *trace) []whole {
	var found []whole
	for _, s := range of.spans { // those that are taken out meanwhile do not come any more
		if s.request != nil {
			found = append(found, a.collect(s.due.Value.(due)))
		}
	}
	if a.traces[of.id] == of {
		a.forget(of)
	}
	return found
}

// collect takes a request and what is below it out of its trace, down to other requests, which count for themselves. As what is
// taken out is not found again, this ends even where spans are said to be below each other in a circle.
func (a *assembly) collect(request due) whole {
	of, found := request.trace, whole{trace: request.trace.id, own: request.span}
	a.due.Remove(request.span.due)
	of.open--
	a.remove(of, request.span)
	for visit := []*span{request.span}; len(visit) > 0; {
		from := visit[len(visit)-1]
		visit = visit[:len(visit)-1]
		for _, s := range of.below[from.id] {
			if s.request == nil {
				a.remove(of, s)
				found.below = append(found.below, s)
				visit = append(visit, s)
			}
		}
	}
	if len(of.spans) == 0 {
		a.drop(of)
	}
	return found
}

func (a *assembly) remove(of *trace, s *span) {
	delete(of.spans, s.id)
	siblings := of.below[s.parent]
	delete(siblings, s.id)
	if len(siblings) == 0 {
		delete(of.below, s.parent)
	}
	a.spans--
}

func (a *assembly) forget(of *trace) {
	a.discarded(unclaimed, len(of.spans))
	a.spans -= len(of.spans)
	a.drop(of)
}

func (a *assembly) drop(of *trace) {
	delete(a.traces, of.id)
	a.quiet.Remove(of.place)
}
