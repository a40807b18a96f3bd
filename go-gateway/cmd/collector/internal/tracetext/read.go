// Package tracetext finds a request in files that the file exporter wrote, and draws its trace as text.
//
// It depends on nothing of the collector but the form of its files.
package tracetext

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// Bounds of what is read: a file may be anything.
const (
	maxLine  = 16 << 20 // bytes: four times what one request to the collector has at most
	maxSpans = 10_000   // of what is drawn
	// Of a request's effects, and theirs: a job, and its deliveries; a batch, its segments, their lines.
	maxSteps  = 5
	maxTraces = 20
)

const requestIDKey = "triptych.request.id"

// Span is one with what sent it.
type Span struct {
	ptrace.Span
	Service string
}

// Request is what was asked for: spans, each of which may be below another one, and those of them that are to be on top.
type Request struct {
	Spans []Span
	Tops  []pcommon.SpanID
	// Left is how many traces are left out that it is the cause of.
	Left int
}

// Find reads files for the request of an id, or for the trace of one, and for what that is the cause of: work that was done
// later, in traces of its own that are linked to it. Files are never held, but read again for each step: what is below a
// request's span stands before it more often than not. It returns too how many lines it could not read.
func Find(ctx context.Context, id string, files []string) (found []Request, skipped int, err error) {
	tops, matching := map[pcommon.TraceID][]pcommon.SpanID{}, 0
	if trace, is := traceID(id); is {
		tops[trace] = nil
	} else if skipped, err = eachSpan(ctx, files, [][]byte{[]byte(id)}, func(span Span) error {
		if value, ok := span.Attributes().Get(requestIDKey); ok && value.AsString() == id {
			tops[span.TraceID()] = append(tops[span.TraceID()], span.SpanID())
			matching++
		}
		return bounded(matching)
	}); err != nil {
		return nil, skipped, err
	}
	known, wanted := map[spanKey]bool{}, tops
	for step := 0; len(wanted) > 0 && step < maxSteps; step++ {
		requests, effects, err := read(ctx, files, wanted, known)
		if err != nil {
			return nil, skipped, err
		}
		found, wanted = append(found, requests...), map[pcommon.TraceID][]pcommon.SpanID{}
		for i := range requests {
			for _, effect := range requests[i].effects(effects) {
				if _, is := wanted[effect]; is {
					continue
				}
				if len(found)+len(wanted) < maxTraces+len(tops) {
					wanted[effect] = nil
				} else {
					found[len(found)-len(requests)+i].Left++
				}
			}
		}
	}
	if len(found) == 0 {
		return nil, skipped, fmt.Errorf("%q is in none of the files: it may not have been recorded, or not been kept", id)
	}
	return found, skipped, nil
}

// spanKey is a span of all.
type spanKey struct {
	trace pcommon.TraceID
	span  pcommon.SpanID
}

// effect is a trace that is linked to a span.
type effect struct {
	cause spanKey
	trace pcommon.TraceID
}

// read returns traces, of which some spans may be known already, and what is linked to any span of theirs.
func read(ctx context.Context, files []string, tops map[pcommon.TraceID][]pcommon.SpanID, known map[spanKey]bool) (found []Request, effects []effect, err error) {
	var hints [][]byte
	for trace := range tops {
		hints = append(hints, []byte(trace.String()))
	}
	spans := map[pcommon.TraceID][]Span{}
	if _, err = eachSpan(ctx, files, hints, func(span Span) error {
		id := spanKey{span.TraceID(), span.SpanID()}
		for _, link := range span.Links().All() {
			if _, is := tops[link.TraceID()]; is && link.TraceID() != id.trace {
				effects = append(effects, effect{spanKey{link.TraceID(), link.SpanID()}, id.trace})
			}
		}
		if _, is := tops[id.trace]; !is || known[id] { // sent twice
			return bounded(len(effects))
		}
		known[id] = true
		copied := Span{ptrace.NewSpan(), span.Service} // without the line that it was in
		span.CopyTo(copied.Span)
		spans[id.trace] = append(spans[id.trace], copied)
		return bounded(len(known))
	}); err != nil {
		return nil, nil, err
	}
	for trace, its := range spans {
		found = append(found, Request{Spans: its, Tops: tops[trace]})
	}
	return found, effects, nil
}

// effects are the traces among some that a request is the cause of: each once, as they came.
func (r *Request) effects(among []effect) (traces []pcommon.TraceID) {
	drawn := map[spanKey]bool{}
	for _, line := range tree(*r) {
		drawn[spanKey{line.TraceID(), line.SpanID()}] = true
	}
	for _, each := range among {
		if drawn[each.cause] && !slices.Contains(traces, each.trace) {
			traces = append(traces, each.trace)
		}
	}
	return traces
}

func bounded(count int) error {
	if count > maxSpans {
		return fmt.Errorf("more than %d spans", maxSpans)
	}
	return nil
}

func traceID(text string) (id pcommon.TraceID, is bool) {
	if len(text) != hex.EncodedLen(len(id)) {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(text))
	return id, err == nil && !id.IsEmpty()
}

// eachSpan tells of all spans of lines that have one of some texts in them, and returns how many of those are none.
func eachSpan(ctx context.Context, files []string, hints [][]byte, tell func(Span) error) (skipped int, err error) {
	for _, name := range files {
		if err := func() error {
			file, err := os.Open(name)
			if err != nil {
				return err
			}
			defer func() { _ = file.Close() }() // it was only read
			reader := bufio.NewReaderSize(file, 1<<20)
			for {
				line, whole, err := readLine(reader)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if !whole {
					skipped++
				} else if containsAny(line, hints) {
					traces, err := new(ptrace.JSONUnmarshaler).UnmarshalTraces(line)
					if err != nil {
						skipped++
					} else if err := spansOf(traces, tell); err != nil {
						return fmt.Errorf("%s: %w", name, err)
					}
				}
				if errors.Is(err, io.EOF) {
					return nil
				} else if err != nil {
					return err
				}
			}
		}(); err != nil {
			return skipped, err
		}
	}
	return skipped, nil
}

// readLine returns the next line, or that it is too long, and then nothing of it.
func readLine(reader *bufio.Reader) (line []byte, whole bool, err error) {
	whole = true
	for {
		part, err := reader.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			line, whole = nil, false
		}
		if whole {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, whole, err
		}
	}
}

func containsAny(line []byte, hints [][]byte) bool {
	for _, hint := range hints {
		if bytes.Contains(line, hint) {
			return true
		}
	}
	return false
}

func spansOf(traces ptrace.Traces, tell func(Span) error) error {
	for _, resource := range traces.ResourceSpans().All() {
		service := ""
		if value, ok := resource.Resource().Attributes().Get("service.name"); ok {
			service = value.AsString()
		}
		for _, scope := range resource.ScopeSpans().All() {
			for _, span := range scope.Spans().All() {
				if err := tell(Span{span, service}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
