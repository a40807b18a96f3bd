package tracetext

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// told is a span as a test writes it.
type told struct {
	trace, id, parent byte
	service, name     string
	start, end        int // ms
	requestID         string
	attributes        map[string]any
	events            []string // one each millisecond
	failed            bool
	cause             [2]byte // the trace and the id of the span that it is linked to
}

func written(t *testing.T, spans ...told) string {
	t.Helper()
	traces := ptrace.NewTraces()
	for _, each := range spans {
		resource := traces.ResourceSpans().AppendEmpty()
		resource.Resource().Attributes().PutStr("service.name", each.service)
		span := resource.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
		span.SetTraceID(pcommon.TraceID{1, 15: each.trace})
		span.SetSpanID(pcommon.SpanID{1, 7: each.id})
		span.SetParentSpanID(pcommon.SpanID{1, 7: each.parent})
		span.SetName(each.name)
		at := func(ms int) pcommon.Timestamp { return pcommon.Timestamp(time.Duration(1e12+ms*1e6) * time.Nanosecond) }
		span.SetStartTimestamp(at(each.start))
		span.SetEndTimestamp(at(each.end))
		if err := span.Attributes().FromRaw(each.attributes); err != nil {
			t.Fatal(err)
		}
		if each.requestID != "" {
			span.Attributes().PutStr(requestIDKey, each.requestID)
		}
		for i, name := range each.events {
			event := span.Events().AppendEmpty()
			event.SetName(name)
			event.SetTimestamp(at(each.start + i))
		}
		if each.cause[1] != 0 {
			link := span.Links().AppendEmpty()
			link.SetTraceID(pcommon.TraceID{1, 15: each.cause[0]})
			link.SetSpanID(pcommon.SpanID{1, 7: each.cause[1]})
		}
		if each.failed {
			span.Status().SetCode(ptrace.StatusCodeError)
		}
	}
	text, err := new(ptrace.JSONMarshaler).MarshalTraces(traces)
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

func file(t *testing.T, content ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "traces.jsonl")
	if err := os.WriteFile(path, []byte(strings.Join(content, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func drawn(t *testing.T, id string, files ...string) (text string, skipped int, err error) {
	t.Helper()
	found, skipped, err := Find(t.Context(), id, files)
	if err != nil {
		return "", skipped, err
	}
	var out strings.Builder
	if err := Draw(&out, found); err != nil {
		t.Fatal(err)
	}
	return out.String(), skipped, nil
}

const gateway, hotpath = "triptych-gateway", "triptych-hotpath"

// Parts of a request stand before it, and a second request is in the same trace.
func TestARequestIsDrawn(t *testing.T) {
	path := file(t,
		written(t, told{id: 4, parent: 3, service: hotpath, name: "decode", start: 20, end: 100, events: []string{"first token", "last token"}}),
		written(t, told{id: 9, parent: 8, service: gateway, name: "of another one", start: 5, end: 6}),
		written(t,
			told{id: 2, parent: 1, service: gateway, name: "admit", start: 1, end: 2},
			told{id: 3, parent: 1, service: gateway, name: "x/Generate", start: 2, end: 110, failed: true, attributes: map[string]any{"error.type": "CANCELLED", "rpc.method": "x"}},
			told{id: 1, parent: 99, service: gateway, name: "POST /v1/chat/completions", start: 0, end: 120, requestID: "req-1", attributes: map[string]any{"triptych.tenant": "acme", "n": int64(3)}},
		),
		written(t, told{id: 8, parent: 99, service: gateway, name: "POST /v1/embeddings", start: 5, end: 7, requestID: "req-2"}),
		written(t, told{id: 2, parent: 1, service: gateway, name: "admit", start: 1, end: 2}), // again
	)
	text, skipped, err := drawn(t, "req-1", path)
	if err != nil || skipped != 0 {
		t.Fatal(err, skipped)
	}
	want := `trace 01000000000000000000000000000000, from 1970-01-01T00:16:40.000Z
request req-1
   0.00 ms  120.00 ms ━━━━━━━━━━━━━━━━━━━━━━━━ POST /v1/chat/completions [triptych-gateway]  n=3  triptych.tenant=acme
   1.00 ms    1.00 ms ━·······················   admit
   2.00 ms  108.00 ms ━━━━━━━━━━━━━━━━━━━━━━··   x/Generate  error.type=CANCELLED FAILED
  20.00 ms   80.00 ms ····━━━━━━━━━━━━━━━━····     decode [triptych-hotpath]
  20.00 ms                                           · first token
  21.00 ms                                           · last token
`
	if text != want {
		t.Errorf("it is\n%s\nand not\n%s", text, want)
	}
	// The whole trace, of which the client's own span never came.
	text, _, err = drawn(t, "01000000000000000000000000000000", path)
	if err != nil || !strings.Contains(text, " POST /v1/embeddings") || !strings.Contains(text, "   of another one") || strings.Count(text, "admit") != 1 {
		t.Errorf("%v\n%s", err, text)
	}
}

// A job of the request, its webhook, and what is not the request's though it is in its trace.
func TestWhatARequestIsTheCauseOfIsDrawn(t *testing.T) {
	path := file(t,
		written(t, told{trace: 3, id: 1, name: "process webhooks", start: 9, end: 10, cause: [2]byte{2, 2}}),
		written(t, told{trace: 2, id: 2, parent: 1, name: "below", start: 6, end: 8}),
		written(t, told{trace: 2, id: 1, name: "process jobs", start: 5, end: 8, cause: [2]byte{1, 2}}),
		written(t, told{trace: 4, id: 1, name: "of another one", start: 5, end: 8, cause: [2]byte{1, 9}}),
		written(t, told{trace: 5, id: 1, name: "of nothing that is there", cause: [2]byte{1, 77}}),
		written(t, told{trace: 1, id: 1, name: "POST /v1/jobs", start: 0, end: 3, requestID: "req-1"}, told{trace: 1, id: 2, parent: 1, name: "store write", start: 1, end: 2}),
		written(t, told{trace: 1, id: 9, parent: 99, name: "GET /v1/jobs", requestID: "req-2"}),
	)
	text, _, err := drawn(t, "req-1", path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for each := range strings.Lines(text) {
		if fields := strings.Fields(each); len(fields) > 0 {
			got = append(got, strings.Join(fields[max(0, len(fields)-2):], " "))
		}
	}
	want := []string{
		"from 1970-01-01T00:16:40.000Z", "request req-1", "POST /v1/jobs", "store write",
		"from 1970-01-01T00:16:40.005Z", "trace 01000000000000000000000000000001", "process jobs", "··━━━━━━━━ below",
		"from 1970-01-01T00:16:40.009Z", "trace 01000000000000000000000000000002", "process webhooks",
	}
	for i := range got {
		got[i] = strings.TrimLeft(got[i], "·━ ")
	}
	for i := range want {
		want[i] = strings.TrimLeft(want[i], "·━ ")
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("it is\n%s\nwhich is %q and not %q", text, got, want)
	}
}

func TestOfManyEffectsSomeAreDrawn(t *testing.T) {
	spans := []told{{trace: 1, id: 1, name: "POST /v1/batches", requestID: "req-1"}}
	for trace := range byte(50) {
		spans = append(spans, told{trace: 10 + trace, id: 1, name: "process batch", start: int(trace), end: 60, cause: [2]byte{1, 1}})
	}
	text, _, err := drawn(t, "req-1", file(t, written(t, spans...)))
	if err != nil || strings.Count(text, "process batch") != maxTraces || strings.Count(text, "and 30 more traces") != 1 {
		t.Errorf("%v\n%s", err, text)
	}
	// Two that are each other's cause, as only somebody else's are.
	circle := file(t, written(t, told{trace: 1, id: 1, name: "a", cause: [2]byte{2, 1}}, told{trace: 2, id: 1, name: "b", cause: [2]byte{1, 1}}))
	if text, _, err := drawn(t, "01000000000000000000000000000001", circle); err != nil || strings.Count(text, "\ntrace ") != 1 {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestTracesOfOneIDAreDrawnEach(t *testing.T) {
	second := file(t, written(t, told{trace: 2, id: 1, name: "later", start: 9, end: 10, requestID: "same"}))
	first := file(t, written(t, told{trace: 1, id: 1, name: "sooner", start: 1, end: 2, requestID: "same"}))
	text, _, err := drawn(t, "same", second, first)
	if err != nil || strings.Index(text, "sooner") > strings.Index(text, "later") || strings.Count(text, "trace 0") != 2 {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestWhatIsNotThereIsSaid(t *testing.T) {
	path := file(t, written(t, told{id: 1, name: "x", requestID: "req-1"}))
	for _, id := range []string{"req-2", "req", "00000000000000000000000000000001", "00000000000000000000000000000000"} {
		if text, _, err := drawn(t, id, path); err == nil || !strings.Contains(err.Error(), id) {
			t.Errorf("%s: %v\n%s", id, err, text)
		}
	}
	if _, _, err := drawn(t, "req-1", path+".gone"); err == nil {
		t.Error("a file that is not there is one with nothing in it")
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Find(cancelled, "req-1", []string{path}); err == nil {
		t.Error("it goes on after its end")
	}
}

// A file is cut off in the middle, has lines that are none and one that is too long.
func TestBrokenFilesAreReadAsFarAsTheyGo(t *testing.T) {
	good := written(t, told{id: 1, name: "x", requestID: "req-1"})
	path := file(t, "req-1\n", `{"req-1": `+"\n", "\xff\xfereq-1\n", good, strings.Repeat("req-1 ", maxLine/6+10)+"\n", `{"resourceSpans":"req-1"}`+"\n", good[:len(good)/2])
	text, skipped, err := drawn(t, "req-1", path)
	if err != nil || skipped < 4 || !strings.Contains(text, " x") {
		t.Errorf("%v, %d skipped\n%s", err, skipped, text)
	}
}

func TestNothingIsKeptOfALineThatIsTooLong(t *testing.T) {
	reader := bufio.NewReader(strings.NewReader(strings.Repeat("x", 2*maxLine) + "\nnext\nlast"))
	for _, want := range []string{"", "next\n", "last"} {
		line, whole, err := readLine(reader)
		if string(line) != want || cap(line) > maxLine || whole != (want != "") || (err == io.EOF) != (want == "last") {
			t.Errorf("%d bytes, whole %v, %v: not %q", len(line), whole, err, want)
		}
	}
}

func TestHostileTracesEndAndStayOnTheirLine(t *testing.T) {
	spans := []told{
		{id: 1, parent: 3, name: "a\x1b[31m\n\u202eb\xff" + strings.Repeat("ä", 500), requestID: "req-1", attributes: map[string]any{"k\n": "v\x07\r", "long": strings.Repeat("x", 1<<16)}},
		{id: 2, parent: 1, name: "b", start: 5, end: -5}, {id: 3, parent: 2, name: "c"}, {id: 4, parent: 4, name: "itself"},
		{id: 5, parent: 3, name: "events", events: make([]string, 1000)},
	}
	for id := range byte(200) {
		spans = append(spans, told{id: 20 + id, parent: 19 + id, name: "deeper"})
	}
	spans[5].parent = 1
	path := file(t, written(t, spans...))
	for _, id := range []string{"req-1", "01000000000000000000000000000000"} {
		text, _, err := drawn(t, id, path)
		if id != "req-1" && err == nil { // whose spans are all below another one: nothing is on top
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if count := strings.Count(text, "\n"); count > 2+4+200+maxEvents+2 {
			t.Errorf("%d lines", count)
		}
		for _, r := range text {
			if !unicode.IsPrint(r) && r != '\n' {
				t.Fatalf("%q is written", r)
			}
		}
		for each := range strings.Lines(text) {
			if len(each) > 1000 {
				t.Errorf("a line of %d bytes", len(each))
			}
		}
	}
}

func TestTooManySpansAreRefused(t *testing.T) {
	spans := make([]told, 200)
	var many strings.Builder
	for i := range 60 {
		for j := range spans {
			spans[j] = told{id: byte(j), trace: byte(i), name: "x", requestID: "req-1"}
		}
		many.WriteString(written(t, spans...))
	}
	if _, _, err := drawn(t, "req-1", file(t, many.String())); err == nil || !strings.Contains(err.Error(), "10000") {
		t.Errorf("%v", err)
	}
}
