package usage

import (
	"container/list"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// Bounds of what is taken over from a span: it comes from outside.
const (
	maxText  = 256 // bytes
	maxTexts = 16
)

// span is what is kept of one.
type span struct {
	id, parent [8]byte
	name       string // of those that are counted
	start, end pcommon.Timestamp
	call       bool     // a call of a hot path, as the gateway has it
	request    *request // that it is, or nil
	model      *model   // whose call it is, or nil
	due        *list.Element
}

// request is what a request's span says.
type request struct {
	id, tenant, outcome, route string
	status                     int64
}

// model is what the span of a model's call says. What is negative is not known.
type model struct {
	operation, name               string
	inputs, input, cached, output int64
	firstChunk                    float64
	finishes                      []string
}

func read(from ptrace.Span) *span {
	read := &span{
		id: from.SpanID(), parent: from.ParentSpanID(), start: from.StartTimestamp(), end: from.EndTimestamp(),
		call: from.Kind() == ptrace.SpanKindClient && has(from, "rpc.method"),
	}
	attributes := from.Attributes()
	if id := text(attributes, requestIDKey); id != "" {
		read.name = short(from.Name())
		read.request = &request{
			id: id, tenant: text(attributes, tenantKey), outcome: text(attributes, outcomeKey), route: text(attributes, routeKey),
			status: number(attributes, statusKey),
		}
	}
	if operation := text(attributes, operationKey); operation != "" {
		read.model = &model{
			operation: operation, name: text(attributes, modelKey), inputs: number(attributes, inputsKey),
			input: number(attributes, inputTokensKey), cached: number(attributes, cachedTokensKey), output: number(attributes, outputTokensKey),
			firstChunk: -1, finishes: texts(attributes, finishesKey),
		}
		if value, ok := attributes.Get(firstChunkKey); ok && value.Type() == pcommon.ValueTypeDouble && value.Double() >= 0 && value.Double() < maxTook.Seconds() {
			read.model.firstChunk = value.Double()
		}
	}
	if phase, is := phases[from.Name()]; is && read.request == nil {
		read.name = phase
	}
	return read
}

// took is how long a span was, if its times can be.
func (s *span) took() time.Duration {
	if s.end <= s.start || s.end-s.start > pcommon.Timestamp(maxTook) {
		return 0
	}
	return time.Duration(s.end - s.start)
}

const maxTook = 7 * 24 * time.Hour // no request nor job has so long

func has(of ptrace.Span, key string) bool {
	_, ok := of.Attributes().Get(key)
	return ok
}

// text returns an attribute that is a text; empty if it is none, as it would be of a number that pretends to be one.
func text(of pcommon.Map, key string) string {
	value, ok := of.Get(key)
	if !ok || value.Type() != pcommon.ValueTypeStr {
		return ""
	}
	return short(value.Str())
}

// short returns a valid text of its own memory, of which there is not more than maxText.
func short(text string) string {
	if len(text) > maxText {
		text = text[:maxText]
	}
	return strings.Clone(strings.ToValidUTF8(text, ""))
}

func texts(of pcommon.Map, key string) []string {
	value, ok := of.Get(key)
	if !ok || value.Type() != pcommon.ValueTypeSlice {
		return nil
	}
	var found []string
	for _, each := range value.Slice().All() {
		if len(found) == maxTexts {
			break
		}
		if each.Type() == pcommon.ValueTypeStr {
			found = append(found, short(each.Str()))
		}
	}
	return slices.Clip(found)
}

// number returns an attribute that is a count; -1 if there is none.
func number(of pcommon.Map, key string) int64 {
	value, ok := of.Get(key)
	if !ok || value.Type() != pcommon.ValueTypeInt || value.Int() < 0 {
		return -1
	}
	return value.Int()
}
