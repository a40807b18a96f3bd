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

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// Bounds of what is read: a file may be anything.
const (
	maxLine  = 16 << 20 // bytes: four times what one request to the collector has at most
	maxSpans = 10_000   // of what is drawn
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
}

// Find reads files for the request of an id, or for the trace of one. Each is read twice and never held: what is below a
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
	var hints [][]byte
	for trace := range tops {
		hints = append(hints, []byte(trace.String()))
	}
	type key struct {
		trace pcommon.TraceID
		span  pcommon.SpanID
	}
	spans, known := map[pcommon.TraceID][]Span{}, map[key]bool{}
	if _, err = eachSpan(ctx, files, hints, func(span Span) error {
		id := key{span.TraceID(), span.SpanID()}
		if _, is := tops[id.trace]; !is || known[id] { // sent twice
			return nil
		}
		known[id] = true
		copied := Span{ptrace.NewSpan(), span.Service} // without the line that it was in
		span.CopyTo(copied.Span)
		spans[id.trace] = append(spans[id.trace], copied)
		return bounded(len(known))
	}); err != nil {
		return nil, skipped, err
	}
	for trace, its := range spans {
		found = append(found, Request{its, tops[trace]})
	}
	if len(found) == 0 {
		return nil, skipped, fmt.Errorf("%q is in none of the files: it may not have been recorded, or not been kept", id)
	}
	return found, skipped, nil
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
