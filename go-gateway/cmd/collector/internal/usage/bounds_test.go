package usage

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

func keyOf(number uint64) (key requestKeyOf) {
	binary.BigEndian.PutUint64(key.trace[:], number)
	key.span[0] = 1
	return key
}

func TestAMillionRequestsAreRememberedInBoundedMemory(t *testing.T) {
	const most = 1_000_000
	now := time.Unix(1e9, 0)
	memory := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := memory()
	s := newSeen(time.Hour, most)
	for n := range uint64(3 * most) {
		if !s.add(keyOf(n), now) {
			t.Fatalf("%d is taken for one that came before", n)
		}
		if s.len() > most {
			t.Fatalf("%d are remembered", s.len())
		}
	}
	if used := memory() - before; used > 100<<20 {
		t.Errorf("%d MB are used", used>>20)
	}
	for n := uint64(3*most - most/2); n < 3*most; n++ { // at least half of the room
		if s.add(keyOf(n), now) {
			t.Fatalf("%d is not known any more", n)
		}
	}
	runtime.KeepAlive(s)
}

func TestRequestsAreRememberedForTheirTime(t *testing.T) {
	start := time.Unix(1e9, 0)
	s := newSeen(time.Hour, 100)
	for _, step := range []struct {
		key   uint64
		after time.Duration
		isNew bool
	}{
		{1, 0, true}, {2, 59 * time.Minute, true}, {1, time.Hour, false}, // which does not prolong it
		{2, 118 * time.Minute, false}, {3, 119 * time.Minute, true}, {1, 2 * time.Hour, true}, {2, 2 * time.Hour, true},
		{3, 121 * time.Minute, false}, {2, 5 * time.Hour, true},
	} {
		if got := s.add(keyOf(step.key), start.Add(step.after)); got != step.isNew {
			t.Errorf("%d after %v: new is %v", step.key, step.after, got)
		}
	}
}

// More spans than there is room for: records are made early, and nothing grows.
func TestSpansAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, func(c *Config) { c.MaxSpans = 30 })
		for n := range byte(200) {
			f.send(t, under(chat(), n+1, fmt.Sprint("req-", n))...)
			if spans, _, _ := f.held(); spans > 30 {
				t.Fatalf("%d spans are kept", spans)
			}
		}
		if got := f.count(t, "collector_usage_early"); got < 190 {
			t.Errorf("%d records are counted as early", got)
		}
		whole := 0
		records := f.end(t)
		for _, each := range records {
			if each[outputTokensKey] == int64(5) {
				whole++
			}
		}
		if len(records) != 200 || whole != 200 { // what is quiet goes first, and that is whole here
			t.Errorf("%d records, of which %d are whole", len(records), whole)
		}
		if left := len(f.assembly.traces) + f.assembly.quiet.Len() + f.assembly.due.Len() + f.assembly.spans; left != 0 {
			t.Errorf("%d things are left", left)
		}
	})
}

// A client may have one trace for all that it ever asks.
func TestATraceWithoutEndIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, nil)
		for n := range 5000 {
			batch := traces(chat()...)
			for _, resource := range batch.ResourceSpans().All() {
				span := resource.ScopeSpans().At(0).Spans().At(0)
				for _, id := range []func() pcommon.SpanID{span.SpanID, span.ParentSpanID} {
					of := id()
					if of == spanOf(client) {
						continue
					}
					binary.BigEndian.PutUint32(of[2:], uint32(n))
					if id() == span.SpanID() {
						span.SetSpanID(of)
					} else {
						span.SetParentSpanID(of)
					}
				}
			}
			if err := f.ConsumeTraces(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		f.mutex.Lock()
		of := f.assembly.traces[traceOf(0)]
		if requests := 70; len(of.spans) > 12*requests || len(of.below) > 12*requests || len(of.below[spanOf(client)]) > requests {
			t.Errorf("%d spans, below %d, are kept", len(of.spans), len(of.below))
		}
		f.mutex.Unlock()
		if records := f.end(t); len(records) != 5000 {
			t.Errorf("%d records", len(records))
		}
	})
}

func TestTenantsOfMetricsAreBounded(t *testing.T) {
	m := &metrics{tenants: map[string]bool{}}
	names := map[string]bool{}
	for n := range 10_000 {
		names[m.tenant(fmt.Sprint("tenant-", n))] = true
	}
	if len(names) != maxTenants+1 || !names[other] {
		t.Errorf("%d tenants have figures", len(names))
	}
}

func TestHostileValuesAreNotBelieved(t *testing.T) {
	long, invalid := strings.Repeat("ä", 1<<20), "a\xff\xfe\x00b\xc3"
	deep := map[string]any{}
	for range 100 {
		deep = map[string]any{"x": deep}
	}
	values := []any{
		"31", "", long, invalid, int64(-1), int64(math.MinInt64), int64(math.MaxInt64), 0.5, math.NaN(), math.Inf(1), -1.0, true,
		[]byte{0xff}, []any{}, []any{long, int64(3), invalid, []any{"x"}}, deep, nil,
	}
	keys := []string{
		requestIDKey, tenantKey, outcomeKey, statusKey, routeKey, operationKey, modelKey, inputTokensKey, cachedTokensKey,
		outputTokensKey, finishesKey, firstChunkKey, inputsKey,
	}
	for _, key := range keys {
		for n, value := range values {
			synctest.Test(t, func(t *testing.T) {
				f := begin(t, nil)
				spans := chat()
				for i := range spans {
					if spans[i].attributes[key] != nil || key == inputsKey && spans[i].id == 4 {
						spans[i].attributes[key] = value
					}
				}
				spans[0].name, spans[1].name = long, invalid
				f.send(t, spans...)
				records := f.end(t)
				if len(records) > 1 || len(records) == 0 && key != requestIDKey {
					t.Errorf("%s as value %d: %d records", key, n, len(records))
				}
				for _, each := range f.sink.taken {
					wantSane(t, each)
				}
			})
		}
	}
}

func wantSane(t *testing.T, record plog.LogRecord) {
	t.Helper()
	logs := plog.NewLogs()
	record.CopyTo(logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty())
	line, err := new(plog.JSONMarshaler).MarshalLogs(logs)
	if err != nil || !utf8.Valid(line) || len(line) > 16<<10 {
		t.Errorf("%v, %d bytes, valid %v", err, len(line), utf8.Valid(line))
	}
	for key, value := range record.Attributes().All() {
		switch value.Type() {
		case pcommon.ValueTypeInt:
			if value.Int() < 0 {
				t.Errorf("%s is %d", key, value.Int())
			}
		case pcommon.ValueTypeDouble:
			if value.Double() < 0 || math.IsNaN(value.Double()) {
				t.Errorf("%s is %v", key, value.Double())
			}
		}
	}
}

// Spans that are below each other in a circle, below themselves, of no id, and with times that cannot be.
func TestHostileTreesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, nil)
		spans := chat()
		spans = append(spans,
			told{id: 30, parent: 31, name: "queue", start: 0, end: 5}, told{id: 31, parent: 30, name: "queue", start: 0, end: 5},
			told{id: 32, parent: 32, name: "queue", start: 0, end: 5},
			told{id: 33, parent: 1, name: "prefill", start: 5, end: -1e5}, told{id: 34, parent: 1, name: "decode", start: -1e6, end: math.MaxInt32 * 4},
		)
		spans[len(chat())-1].parent = 14 // the request is below its own decoding
		f.send(t, spans...)
		empty := ptrace.NewTraces()
		scope := empty.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty()
		scope.Scope().SetName(gatewayScope)
		scope.Spans().AppendEmpty().SetTraceID(traceOf(5))
		scope.Spans().AppendEmpty().SetSpanID(spanOf(5))
		if err := f.ConsumeTraces(t.Context(), empty); err != nil {
			t.Fatal(err)
		}
		wantRecords(t, f.end(t), chatRecord())
		if got := f.count(t, "collector_usage_discarded_spans", "why", "invalid"); got != 2 {
			t.Errorf("%d spans are counted as invalid", got)
		}
	})
}

func TestSettingsThatCannotBeAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"wait": func(c *Config) { c.Wait = 0 }, "patience": func(c *Config) { c.Patience = -1 }, "remember": func(c *Config) { c.Remember = 1 << 62 },
		"max_spans": func(c *Config) { c.MaxSpans = 0 }, "max_requests": func(c *Config) { c.MaxRequests = -1 }, "max_unsent": func(c *Config) { c.MaxUnsent = 1 << 40 },
	} {
		config := defaults().(*Config)
		change(config)
		if err := config.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
