package usage

import (
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
)

// record is what a request used, as far as its spans say. What is negative is not known.
type record struct {
	trace   pcommon.TraceID
	span    pcommon.SpanID
	ended   pcommon.Timestamp
	name    string
	request *request
	model   *model // of all calls of a model; nil if there was none
	calls   int
	took    time.Duration
	phases  map[string]time.Duration
}

// recordOf makes the record of a request.
func recordOf(from whole) record {
	made := record{
		trace: from.trace, span: from.own.id, ended: from.own.end, name: from.own.name, request: from.own.request, took: from.own.took(),
		phases: map[string]time.Duration{},
	}
	// A map had them: their order was by chance.
	slices.SortFunc(from.below, func(a, b *span) int { return int(min(max(int64(a.start)-int64(b.start), -1), 1)) })
	for _, s := range from.below {
		switch {
		case s.model != nil && made.model == nil:
			made.model = s.model
		case s.model != nil:
			made.model.add(s.model)
		case s.call:
			made.calls++
		case s.name != "":
			made.phases[s.name] += s.took()
		}
	}
	return made
}

// add takes a second call of a model into the first one's figures.
func (m *model) add(other *model) {
	for _, count := range []struct {
		to    *int64
		other int64
	}{{&m.inputs, other.inputs}, {&m.input, other.input}, {&m.cached, other.cached}, {&m.output, other.output}} {
		switch {
		case *count.to < 0:
			*count.to = count.other
		case count.other > 0 && *count.to+count.other > 0: // else it is more than there is
			*count.to += count.other
		}
	}
	if m.name == "" {
		m.name = other.name
	}
}

// put writes a record as one of a log, whose names are those of the spans.
func (r *record) put(to plog.LogRecord, now time.Time) {
	to.SetTimestamp(r.ended)
	to.SetObservedTimestamp(pcommon.NewTimestampFromTime(now))
	to.SetSeverityNumber(plog.SeverityNumberInfo)
	to.SetEventName(eventName)
	to.SetTraceID(r.trace)
	to.SetSpanID(r.span)
	attributes := to.Attributes()
	text := func(key, value string) {
		if value != "" {
			attributes.PutStr(key, value)
		}
	}
	count := func(key string, value int64) {
		if value >= 0 {
			attributes.PutInt(key, value)
		}
	}
	text(requestIDKey, r.request.id)
	text(tenantKey, r.request.tenant)
	text(requestKey, r.name)
	text(routeKey, r.request.route)
	text(outcomeKey, r.request.outcome)
	count(statusKey, r.request.status)
	if r.model != nil {
		text(operationKey, r.model.operation)
		text(modelKey, r.model.name)
		count(inputsKey, r.model.inputs)
		count(inputTokensKey, r.model.input)
		count(cachedTokensKey, r.model.cached)
		count(outputTokensKey, r.model.output)
		if len(r.model.finishes) > 0 {
			finishes := attributes.PutEmptySlice(finishesKey)
			for _, finish := range r.model.finishes {
				finishes.AppendEmpty().SetStr(finish)
			}
		}
		if r.model.firstChunk >= 0 {
			attributes.PutDouble(firstChunkKey, r.model.firstChunk)
		}
	}
	attributes.PutInt(callsKey, int64(r.calls))
	attributes.PutDouble(secondsKey+total, r.took.Seconds())
	for phase, took := range r.phases {
		attributes.PutDouble(secondsKey+phase, took.Seconds())
	}
}

// logs has records as a log that exporters take.
func logs(records []record, now time.Time) plog.Logs {
	made := plog.NewLogs()
	scope := made.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty()
	scope.Scope().SetName(scopeName)
	scope.LogRecords().EnsureCapacity(len(records))
	for _, each := range records {
		each.put(scope.LogRecords().AppendEmpty(), now)
	}
	return made
}
