package usage

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

var componentID = component.MustNewID("usage")

func sumOf(t *testing.T, of metricdata.Metrics, attributes []string) int64 {
	t.Helper()
	var points []metricdata.DataPoint[int64]
	switch data := of.Data.(type) {
	case metricdata.Sum[int64]:
		points = data.DataPoints
	case metricdata.Gauge[int64]:
		points = data.DataPoints
	default:
		t.Fatalf("%s is a %T", of.Name, of.Data)
	}
	sum := int64(0)
next:
	for _, point := range points {
		for i := 0; i < len(attributes); i += 2 {
			if value, _ := point.Attributes.Value(attribute.Key(attributes[i])); value.AsString() != attributes[i+1] {
				continue next
			}
		}
		sum += point.Value
	}
	return sum
}

func wantRecords(t *testing.T, got []map[string]any, want ...map[string]any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) && len(got)+len(want) > 0 {
		t.Fatalf("records are\n%v\nand not\n%v", got, want)
	}
}

func TestARequestIsOneRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, nil)
		f.send(t, chat()...)
		time.Sleep(4 * time.Second)
		wantRecords(t, f.sink.all()) // spans may still come
		time.Sleep(3 * time.Second)
		wantRecords(t, f.sink.all(), chatRecord())
		_, record := f.sink.attempts()
		if record.EventName() != "triptych.usage" || record.TraceID() != traceOf(0) || record.SpanID() != spanOf(1) {
			t.Errorf("it is %q of %v %v", record.EventName(), record.TraceID(), record.SpanID())
		}
		if ended := record.Timestamp().AsTime(); !ended.Equal(time.UnixMilli(1e6 + 362)) {
			t.Errorf("its time is %v", ended)
		}
		if got := f.count(t, "collector_usage_requests", "tenant", "acme", "outcome", "OK", "model", "smol"); got != 1 {
			t.Errorf("%d requests are counted", got)
		}
		for kind, tokens := range map[string]int64{"input": 31, "cached": 16, "output": 5} {
			if got := f.count(t, "collector_usage_tokens", "tenant", "acme", "kind", kind); got != tokens {
				t.Errorf("%d tokens are counted as %s", got, kind)
			}
		}
		wantRecords(t, f.end(t), chatRecord())
	})
}

// Whatever the order, and however often a span comes, the record is the same one, and comes once.
func TestOrderAndRepetitionDoNotMatter(t *testing.T) {
	for seed := range uint64(100) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			f := begin(t, nil)
			spans := slices.Concat(chat(), chat()[random.IntN(12):])
			random.Shuffle(len(spans), func(i, j int) { spans[i], spans[j] = spans[j], spans[i] })
			for len(spans) > 0 {
				count := 1 + random.IntN(len(spans))
				f.send(t, spans[:count]...)
				spans = spans[count:]
				time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
			}
			time.Sleep(7 * time.Second)
			wantRecords(t, f.sink.all(), chatRecord())
			wantRecords(t, f.end(t), chatRecord())
		})
	}
}

func TestWhatIsSentAgainLaterIsNotARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, nil)
		f.send(t, chat()...)
		for range 5 {
			time.Sleep(7 * time.Second)
			f.send(t, chat()...)
		}
		time.Sleep(11 * time.Minute)
		wantRecords(t, f.sink.all(), chatRecord())
		if got := f.count(t, "collector_usage_discarded_spans", "why", "duplicate"); got < 5 {
			t.Errorf("%d spans are counted as duplicates", got)
		}
		if spans, _, _ := f.held(); spans != 0 {
			t.Errorf("%d spans are left", spans)
		}
		time.Sleep(2 * time.Hour)
		if _, requests, _ := f.held(); requests != 1 {
			t.Errorf("%d requests are remembered, which only the next one would change", requests)
		}
		f.send(t, under(chat(), 9, "req-9")...)
		if _, requests, _ := f.held(); requests != 1 {
			t.Errorf("%d requests are remembered after their time", requests)
		}
		f.end(t)
	})
}

// A request's id may be what a client likes. One that sends the same with each request pays for each.
func TestRequestsOfOneIDAreCountedEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, nil)
		f.send(t, chat()...)
		f.send(t, under(chat(), 2, "req-1")...)
		wantRecords(t, f.end(t), chatRecord(), chatRecord())
	})
}

func TestRequestsOfOneTraceHaveTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, nil)
		second := chat()
		for i := range second {
			second[i].id += 100
			if second[i].parent != client {
				second[i].parent += 100
			} else {
				second[i].parent = 7 // below the first one's stream
			}
		}
		second = under(second, 0, "req-2")
		f.send(t, slices.Concat(second, chat())...)
		wanted := chatRecord()
		wanted[requestIDKey] = "req-2"
		got := f.end(t)
		slices.SortFunc(got, func(a, b map[string]any) int {
			return len(fmt.Sprint(a[requestIDKey])) - len(fmt.Sprint(b[requestIDKey]))
		})
		if len(got) == 2 && got[0][requestIDKey] == "req-2" {
			slices.Reverse(got)
		}
		wantRecords(t, got, chatRecord(), wanted)
	})
}

// A hot path that was asked in vain, and then another one: both took time, and tokens are told once.
func TestARetryIsOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, nil)
		first := told{id: 20, parent: 4, name: "x/Generate", kind: 3, start: 3, end: 4, attributes: map[string]any{"rpc.method": "x/Generate"}}
		f.send(t, append(chat(), first, told{id: 21, parent: 20, name: "queue", start: 0, end: 5, scope: hotpathScope})...)
		wanted := chatRecord()
		wanted[callsKey], wanted[secondsKey+"queue"] = int64(2), 0.015
		wantRecords(t, f.end(t), wanted)
	})
}

func TestWhatIsMissingIsNotMadeUp(t *testing.T) {
	without := func(keys ...string) map[string]any {
		record := chatRecord()
		for _, key := range keys {
			delete(record, key)
		}
		return record
	}
	ofHotPath := []string{secondsKey + "tokenize", secondsKey + "queue", secondsKey + "prefill", secondsKey + "decode"}
	ofModel := append([]string{
		operationKey, modelKey, inputTokensKey, cachedTokensKey, outputTokensKey, finishesKey, firstChunkKey, secondsKey + "admit",
	}, ofHotPath...)
	noCalls := without(ofModel...)
	noCalls[callsKey] = int64(0)
	oneLess := without(ofHotPath...)
	oneLess[callsKey] = int64(0)
	for name, c := range map[string]struct {
		spans     []told
		want      []map[string]any
		unclaimed int64
	}{
		"the request":            {but(chat(), 1), nil, 11},
		"the model's call":       {but(chat(), 4), []map[string]any{noCalls}, 7},
		"the gateway's own call": {but(chat(), 6), []map[string]any{oneLess}, 5},
		"the hot path":           {but(chat(), 10, 11, 12, 13, 14), []map[string]any{without(ofHotPath...)}, 0},
		"a phase":                {but(chat(), 12), []map[string]any{without(secondsKey + "queue")}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := begin(t, nil)
				f.send(t, c.spans...)
				time.Sleep(11 * time.Minute)
				wantRecords(t, f.sink.all(), c.want...)
				if got := f.count(t, "collector_usage_discarded_spans", "why", "unclaimed"); got != c.unclaimed {
					t.Errorf("%d spans are counted as unclaimed", got)
				}
				if spans, _, _ := f.held(); spans != 0 {
					t.Errorf("%d spans are left", spans)
				}
				wantRecords(t, f.end(t), c.want...)
			})
		})
	}
}

// The first spans of a long request come long before its own.
func TestALongRequestIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, nil)
		spans := chat()
		f.send(t, spans[:3]...)
		time.Sleep(9 * time.Minute)
		f.send(t, spans[3:]...)
		time.Sleep(7 * time.Second)
		wantRecords(t, f.sink.all(), chatRecord())
		f.end(t)
	})
}

// Nor does it matter what else its trace has had.
func TestALongRequestOfAnOldTraceIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, nil)
		spans := chat()
		f.send(t, told{id: 90, parent: 91, name: "admit"}) // of nobody
		time.Sleep(8 * time.Minute)
		f.send(t, spans[:3]...)
		time.Sleep(8 * time.Minute)
		f.send(t, spans[3:]...)
		time.Sleep(7 * time.Second)
		wantRecords(t, f.sink.all(), chatRecord())
		f.end(t)
	})
}

func TestSpansOfOthersAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, nil)
		spans := chat()
		for i := range spans {
			spans[i].scope = "a client's"
		}
		f.send(t, spans...)
		if spans, _, _ := f.held(); spans != 0 {
			t.Errorf("%d spans are kept", spans)
		}
		wantRecords(t, f.end(t))
	})
}

func TestTheEndSendsWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, nil)
		f.send(t, chat()...)
		f.send(t, under(but(chat(), 1), 3, "")...) // whose request never came
		wantRecords(t, f.end(t), chatRecord())
		if spans, _, records := f.held(); spans+records != 0 {
			t.Errorf("%d spans and %d records are left", spans, records)
		}
	})
}

func TestAnExporterThatIsDownIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, func(c *Config) { c.MaxUnsent = 3 })
		f.sink.setRefusal(errDown)
		for n := range byte(5) {
			f.send(t, under(chat(), n+1, fmt.Sprint("req-", n+1))...)
			time.Sleep(10 * time.Second)
		}
		synctest.Wait() // for what is done at this moment, too
		if _, _, records := f.held(); records != 3 {
			t.Errorf("%d records wait, and not 3", records)
		}
		if got := f.count(t, "collector_usage_lost"); got != 2 {
			t.Errorf("%d records are counted as lost", got)
		}
		f.sink.setRefusal(nil)
		time.Sleep(2 * time.Second)
		var ids []any
		for _, each := range f.end(t) {
			ids = append(ids, each[requestIDKey])
		}
		if want := []any{"req-3", "req-4", "req-5"}; !reflect.DeepEqual(ids, want) {
			t.Errorf("records are of %v, and not of %v", ids, want)
		}
	})
}

func TestWhatComesWhileAnExporterRefusesIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, func(c *Config) { c.MaxUnsent = 3 })
		for n := range byte(3) {
			f.send(t, under(chat(), n+1, fmt.Sprint("req-", n+1))...)
		}
		f.sink.setRefusal(errDown)
		f.sink.setDuring(func() {
			f.sink.during = nil // with its lock
			for n := range byte(2) {
				f.send(t, under(chat(), n+4, fmt.Sprint("req-", n+4))...)
			}
			f.collect(func(time.Time) []whole { return f.assembly.rest() })
		})
		time.Sleep(7 * time.Second)
		synctest.Wait()
		if _, _, records := f.held(); records != 3 || f.count(t, "collector_usage_lost") != 2 {
			t.Errorf("%d records wait, %d are lost", records, f.count(t, "collector_usage_lost"))
		}
		f.sink.setRefusal(nil)
		if records := f.end(t); len(records) != 3 {
			t.Errorf("%d records", len(records))
		}
	})
}

// An exporter may take as long over a refusal as there is between two looks at the metrics.
func TestWhatIsBeingSentCountsAsUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, nil)
		for n := range byte(3) {
			f.send(t, under(chat(), n+1, fmt.Sprint("req-", n+1))...)
		}
		var unsent []int
		look := func() {
			_, _, records := f.held()
			unsent = append(unsent, records)
		}
		f.sink.setRefusal(errDown)
		f.sink.setDuring(look)
		time.Sleep(7 * time.Second)
		synctest.Wait()
		if len(unsent) == 0 || slices.ContainsFunc(unsent, func(records int) bool { return records != 3 }) {
			t.Errorf("while 3 records are refused, so many are unsent: %v", unsent)
		}
		f.sink.setRefusal(nil)
		f.sink.setDuring(nil)
		if records := f.end(t); len(records) != 3 {
			t.Errorf("%d records", len(records))
		}
		if look(); unsent[len(unsent)-1] != 0 {
			t.Errorf("%d records are unsent at the end", unsent[len(unsent)-1])
		}
	})
}

func TestWhatAnExporterNeverTakesIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, nil)
		f.sink.setRefusal(consumererror.NewPermanent(errDown))
		f.send(t, chat()...)
		time.Sleep(20 * time.Second)
		if tried, _ := f.sink.attempts(); tried != 1 || f.count(t, "collector_usage_lost") != 1 {
			t.Errorf("tried %d times, %d are counted as lost", tried, f.count(t, "collector_usage_lost"))
		}
		f.end(t)
	})
}

func TestTheEndSaysWhatIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, nil)
		f.sink.setRefusal(errDown)
		f.send(t, chat()...)
		if err := f.Shutdown(t.Context()); err == nil {
			t.Error("nothing is said of it")
		}
	})
}

// With the race detector: whoever sends, sends at once, and what ends it does not wait for a better moment.
func TestManyAtOnce(t *testing.T) {
	f := begin(t, func(c *Config) { c.Wait, c.MaxSpans = 10*time.Millisecond, 500 })
	var senders sync.WaitGroup
	for sender := range byte(8) {
		senders.Go(func() {
			for n := range byte(100) {
				if err := f.ConsumeTraces(t.Context(), traces(under(chat(), 100+n, fmt.Sprint("req-", n))...)); err != nil {
					t.Error(err)
				}
				if n%20 == sender {
					f.held()
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	senders.Wait()
	ids := map[any]int{}
	for _, each := range f.end(t) {
		ids[each[requestIDKey]]++
		if each[outputTokensKey] != nil && each[outputTokensKey] != int64(5) {
			t.Errorf("%v tokens", each[outputTokensKey])
		}
	}
	if len(ids) != 100 {
		t.Errorf("%d requests have a record", len(ids))
	}
	for id, count := range ids {
		if count != 1 {
			t.Errorf("%v has %d records", id, count)
		}
	}
}
