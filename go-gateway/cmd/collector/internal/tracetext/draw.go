package tracetext

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// noise are attributes that are the same for all of a kind, or are in the line already.
var noise = map[string]bool{
	"http.request.method": true, "http.route": true, "url.scheme": true, "network.protocol.version": true, "rpc.system.name": true,
	"rpc.method": true, "gen_ai.operation.name": true, "gen_ai.provider.name": true, "gen_ai.request.model": true, requestIDKey: true,
	"messaging.system": true, "messaging.destination.name": true, "messaging.operation.name": true, "messaging.operation.type": true,
}

const (
	barWidth  = 24
	maxText   = 80
	maxEvents = 40
)

// Draw writes each request as a tree. A line has when a span began after the first one, how long it was, a bar of both, and
// its name with what is worth knowing of it.
func Draw(out io.Writer, requests []Request) error {
	slices.SortFunc(requests, func(a, b Request) int { return cmp.Compare(begin(a.Spans), begin(b.Spans)) })
	var text strings.Builder
	for i, request := range requests {
		if i > 0 {
			text.WriteByte('\n')
		}
		draw(&text, request)
	}
	_, err := io.WriteString(out, text.String())
	return err
}

func begin(spans []Span) pcommon.Timestamp {
	first := spans[0].StartTimestamp()
	for _, span := range spans {
		first = min(first, span.StartTimestamp())
	}
	return first
}

// line is a span in the tree.
type line struct {
	Span
	depth int
}

func draw(text *strings.Builder, request Request) {
	lines := tree(request)
	if len(lines) == 0 {
		return
	}
	var from, to pcommon.Timestamp
	from = lines[0].StartTimestamp()
	for _, each := range lines {
		from, to = min(from, each.StartTimestamp()), max(to, each.EndTimestamp())
	}
	fmt.Fprintf(text, "trace %s, from %s\n", lines[0].TraceID(), from.AsTime().UTC().Format("2006-01-02T15:04:05.000Z"))
	if len(request.Tops) > 0 {
		if value, ok := lines[0].Attributes().Get(requestIDKey); ok {
			fmt.Fprintf(text, "request %s\n", printable(value.AsString()))
		}
	}
	for _, link := range lines[0].Links().All() {
		fmt.Fprintf(text, "caused by trace %s\n", link.TraceID())
	}
	service := ""
	for _, each := range lines {
		after, took := since(from, each.StartTimestamp()), since(each.StartTimestamp(), each.EndTimestamp())
		fmt.Fprintf(text, "%10s %10s %s %s%s", short(after), short(took), bar(after, took, since(from, to)), strings.Repeat("  ", each.depth), printable(each.Name()))
		if each.Service != service { // where it changes
			service = each.Service
			fmt.Fprintf(text, " [%s]", printable(service))
		}
		attributes(text, each.Attributes())
		if each.Status().Code() == ptrace.StatusCodeError {
			text.WriteString(" FAILED")
		}
		text.WriteByte('\n')
		for i, event := range each.Events().All() {
			if i == maxEvents {
				fmt.Fprintf(text, "%10s %10s %s %s· and %d more events\n", "", "", blank, strings.Repeat("  ", each.depth+1), each.Events().Len()-i)
				break
			}
			after := since(from, event.Timestamp())
			fmt.Fprintf(text, "%10s %10s %s %s· %s", short(after), "", blank, strings.Repeat("  ", each.depth+1), printable(event.Name()))
			attributes(text, event.Attributes())
			text.WriteByte('\n')
		}
	}
	if request.Left > 0 {
		fmt.Fprintf(text, "and %d more traces that it is the cause of\n", request.Left)
	}
}

var blank = strings.Repeat(" ", barWidth)

// tree has spans in the order of their beginnings, each below its parent. Where nothing is to be on top, whatever has no parent
// among them is. No span is drawn twice, so a circle ends.
func tree(request Request) []line {
	spans := slices.Clone(request.Spans)
	slices.SortStableFunc(spans, func(a, b Span) int { return cmp.Compare(a.StartTimestamp(), b.StartTimestamp()) })
	known, below := map[pcommon.SpanID]bool{}, map[pcommon.SpanID][]Span{}
	for _, span := range spans {
		known[span.SpanID()] = true
		below[span.ParentSpanID()] = append(below[span.ParentSpanID()], span)
	}
	var lines []line
	drawn := map[pcommon.SpanID]bool{}
	isTop := func(span Span) bool {
		if len(request.Tops) > 0 {
			return slices.Contains(request.Tops, span.SpanID())
		}
		return !known[span.ParentSpanID()]
	}
	for _, top := range spans {
		if !isTop(top) {
			continue
		}
		for visit := []line{{top, 0}}; len(visit) > 0; {
			next := visit[len(visit)-1]
			visit = visit[:len(visit)-1]
			if drawn[next.SpanID()] {
				continue
			}
			drawn[next.SpanID()] = true
			lines = append(lines, next)
			for _, child := range slices.Backward(below[next.SpanID()]) {
				visit = append(visit, line{child, min(next.depth+1, 40)})
			}
		}
	}
	return lines
}

func since(from, to pcommon.Timestamp) time.Duration {
	if to <= from || to-from > pcommon.Timestamp(365*24*time.Hour) {
		return 0
	}
	return time.Duration(to - from)
}

// short writes a duration in the unit that suits a request.
func short(of time.Duration) string {
	if of >= 10*time.Second {
		return fmt.Sprintf("%.2f s", of.Seconds())
	}
	return fmt.Sprintf("%.2f ms", float64(of)/float64(time.Millisecond))
}

func bar(after, took, all time.Duration) string {
	if all == 0 {
		return blank
	}
	first := min(int(barWidth*float64(after)/float64(all)), barWidth-1)
	width := max(min(int(barWidth*float64(took)/float64(all)+0.5), barWidth-first), 1)
	return strings.Repeat("·", first) + strings.Repeat("━", width) + strings.Repeat("·", barWidth-first-width)
}

func attributes(text *strings.Builder, of pcommon.Map) {
	var pairs []string
	for name, value := range of.All() {
		if !noise[name] {
			pairs = append(pairs, printable(name)+"="+printable(value.AsString()))
		}
	}
	slices.Sort(pairs)
	for _, pair := range pairs {
		text.WriteString("  " + pair)
	}
}

// printable is a text that does nothing to a terminal, cut where it is long.
func printable(text string) string {
	cut := ""
	if len(text) > maxText {
		text, cut = text[:maxText], "…"
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, text) + cut
}
