package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"triptych.dev/gateway/internal/workpool"
)

func TestMessagesAreDoneOnceAndAcknowledged(t *testing.T) {
	server, gateway := startNATS(t), newGateway(t)
	queue := newQueue(t, server.client())
	for i := range 20 {
		queue.mustSend(fmt.Sprintf("order-%d", i), fmt.Sprint("text ", i))
	}
	queue.mustSend("", "without an id")
	c := startInside(t, arguments(t, server, gateway.URL))
	eventually(t, "all is acknowledged", func() bool { return count(t, queue.work) == 0 })
	if got := count(t, queue.results); got != 21 || gateway.made() != 21 {
		t.Fatalf("%d results of %d jobs, not 21 of 21", got, gateway.made())
	}
	if gateway.keys["order-7"] == "" {
		t.Errorf("a message's id is not the Idempotency-Key: %v", gateway.keys)
	}
	byPlace := 0
	for key := range gateway.keys {
		if strings.HasPrefix(key, "WORK.") && strings.HasSuffix(key, ".21") {
			byPlace++
		}
	}
	if byPlace != 1 {
		t.Errorf("a message without an id has not its place as the Idempotency-Key: %v", gateway.keys)
	}
	result := all(t, queue.results)[0]
	if result.Header.Get("Nats-Msg-Id") != result.Header.Get("Job-Id") || result.Subject != "results."+result.Header.Get("Job-Id") ||
		result.Header.Get("Original-Subject") != "work.jobs" {
		t.Errorf("a result's headers: %v at %s", result.Header, result.Subject)
	}
	if got := testutil.ToFloat64(c.metrics.outcomes.WithLabelValues(outcomeAcked)); got != 21 {
		t.Errorf("%v acknowledged in metrics", got)
	}
	if log := c.log.String(); strings.Contains(log, testKey) || strings.Contains(log, "text 3") {
		t.Errorf("a key or a text is in the log:\n%s", log)
	}
}

func TestWhatCannotBeDoneIsADeadLetter(t *testing.T) {
	server, gateway := startNATS(t), newGateway(t)
	queue := newQueue(t, server.client())
	const body = `{"endpoint":"/v1/embeddings","body":{}}`
	for _, c := range []struct {
		name, data   string
		fault        func(http.ResponseWriter)
		status       string
		reason, code string
	}{
		{name: "refused", data: body, fault: func(w http.ResponseWriter) { refuse(w, 400, "invalid_value") }, reason: "refused", code: "invalid_value"},
		{name: "no model", data: body, fault: func(w http.ResponseWriter) { refuse(w, 404, "model_not_found") }, reason: "refused", code: "model_not_found"},
		{name: "other body", data: body, fault: func(w http.ResponseWriter) { refuse(w, 409, "idempotency_key_reused") }, reason: "refused", code: "idempotency_key_reused"},
		{name: "a proxy's limit", data: body, fault: func(w http.ResponseWriter) { w.WriteHeader(413) }, reason: "refused"},
		{name: "failed", data: body, status: "failed", reason: "job_failed", code: "empty_input"},
		{name: "cancelled", data: body, status: "cancelled", reason: "job_cancelled"},
		{name: "poison", data: "\x00\xff no JSON", reason: "not_json"},
		{name: "no object", data: `["a"]`, reason: "not_json"},
		{name: "large", data: `{"a":"` + strings.Repeat("b", 3000) + `"}`, reason: "too_large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			gateway.set(func(g *fakeGateway) {
				g.fault, g.status = nil, c.status
				if c.fault != nil {
					g.fault = answering(1, c.fault)
				}
			})
			message := nats.NewMsg("work.jobs")
			message.Data = []byte(c.data)
			message.Header.Set("Trace", "abc")
			if err := queue.sendMessage(message, c.name); err != nil {
				t.Fatal(err)
			}
			before := count(t, queue.dead)
			consumer := startInside(t, arguments(t, server, gateway.URL, "--max-message-bytes", "2000"))
			eventually(t, "it is a dead letter and gone", func() bool { return count(t, queue.work) == 0 && count(t, queue.dead) == before+1 })
			consumer.drained(t)
			letters := all(t, queue.dead)
			letter := letters[len(letters)-1]
			if string(letter.Data) != c.data {
				t.Errorf("its data is %q", letter.Data)
			}
			for name, want := range map[string]string{
				"Dead-Reason": c.reason, "Dead-Code": c.code, "Original-Subject": "work.jobs", "Original-Deliveries": "1",
				"Original-Msg-Id": c.name, "Trace": "abc", "Original-Stream": "WORK",
			} {
				if got := letter.Header.Get(name); got != want {
					t.Errorf("%s is %q, not %q", name, got, want)
				}
			}
		})
	}
}

func TestOverloadAndOutagesAreWaitedFor(t *testing.T) {
	t.Parallel()
	server, gateway := startNATS(t), newGateway(t)
	queue := newQueue(t, server.client())
	startInside(t, arguments(t, server, gateway.URL, "--max-deliveries", "1"))
	for name, answer := range map[string]func(http.ResponseWriter){
		"429": func(w http.ResponseWriter) {
			w.Header().Set("Retry-After-Ms", "300")
			refuse(w, 429, "rate_limit_exceeded")
		},
		"503": func(w http.ResponseWriter) { w.Header().Set("Retry-After-Ms", "300"); refuse(w, 503, "queue_full") },
		"in flight": func(w http.ResponseWriter) {
			w.Header().Set("Retry-After-Ms", "300")
			refuse(w, 409, "idempotency_in_flight")
		},
		"full":         func(w http.ResponseWriter) { refuse(w, 507, "storage_full") },
		"wrong place":  func(w http.ResponseWriter) { w.WriteHeader(404) },
		"wrong key":    func(w http.ResponseWriter) { refuse(w, 401, "invalid_api_key") },
		"no reply":     func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"bad gateway":  func(w http.ResponseWriter) { w.WriteHeader(502) },
		"no such JSON": func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>")) },
	} {
		t.Run(name, func(t *testing.T) {
			results, calls := count(t, queue.results), gateway.called()
			gateway.set(func(g *fakeGateway) { g.fault = answering(2, answer) })
			began := time.Now()
			queue.mustSend("id "+name, "a text")
			eventually(t, "it is done", func() bool { return count(t, queue.results) == results+1 && count(t, queue.work) == 0 })
			if took := time.Since(began); strings.Contains("429 503 in flight", name) && took < 600*time.Millisecond {
				t.Errorf("it was done after %v, though Retry-After came to 600 ms", took)
			}
			if more := gateway.called() - calls; more > 5 {
				t.Errorf("%d calls for a message that was refused twice", more)
			}
		})
	}
	if got := count(t, queue.dead); got != 0 {
		t.Errorf("%d dead letters", got)
	}
}

// While the gateway is away, messages stay in the stream until it is full: then producers are told.
func TestAFullStreamPushesBackOnProducers(t *testing.T) {
	server, gateway := startNATS(t), newGateway(t)
	queue := newQueue(t, server.client())
	info, err := queue.work.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	info.Config.MaxMsgs = 10
	if queue.work, err = queue.js.UpdateStream(t.Context(), info.Config); err != nil {
		t.Fatal(err)
	}
	away := func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(502); return true }
	gateway.set(func(g *fakeGateway) { g.fault = away })
	c := startInside(t, arguments(t, server, gateway.URL))
	accepted := 0
	for i := range 20 {
		if err := queue.send(fmt.Sprint("id ", i), "a text"); err == nil {
			accepted++
		} else if !strings.Contains(err.Error(), "maximum messages exceeded") {
			t.Fatal(err)
		}
	}
	if accepted != 10 {
		t.Fatalf("%d of 20 messages were accepted by a stream of 10", accepted)
	}
	eventually(t, "as many are here as there are workers", func() bool { return testutil.ToFloat64(c.metrics.inFlight) == 4 })
	if unsettled := ackPending(t, queue); unsettled != 4 {
		t.Errorf("%d messages were fetched for 4 workers", unsettled)
	}
	gateway.set(func(g *fakeGateway) { g.fault = nil })
	eventually(t, "all that was accepted is done", func() bool { return count(t, queue.results) == accepted && count(t, queue.work) == 0 })
	queue.mustSend("one more", "a text")
}

func ackPending(t *testing.T, queue *queue) int {
	t.Helper()
	consumer, err := queue.work.Consumer(t.Context(), "triptych")
	if err != nil {
		t.Fatal(err)
	}
	return consumer.CachedInfo().NumAckPending
}

func TestADeadLetterWithoutAPlaceIsNotLost(t *testing.T) {
	server, gateway := startNATS(t), newGateway(t)
	queue := newQueue(t, server.client())
	full := queue.full(t, queue.dead)
	c := startInside(t, arguments(t, server, gateway.URL, "--max-deliveries", "100"), func(c *consumer) { c.letterDelay = 50 * time.Millisecond })
	message := nats.NewMsg("work.jobs")
	message.Data = []byte("poison")
	if err := queue.sendMessage(message, "poison"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is given back some times", func() bool {
		return testutil.ToFloat64(c.metrics.outcomes.WithLabelValues(outcomeNak)) > 2
	})
	queue.mustSend("good", "a text")
	eventually(t, "others go on", func() bool { return count(t, queue.results) == 1 })
	if count(t, queue.work) != 1 {
		t.Fatal("the message is not in the stream any more")
	}
	full(10)
	eventually(t, "it is a dead letter", func() bool { return count(t, queue.work) == 0 && count(t, queue.dead) == 2 })
}

// full fills a stream, and returns what gives it room.
func (q *queue) full(t *testing.T, stream jetstream.Stream) func(most int64) {
	t.Helper()
	config := stream.CachedInfo().Config
	set := func(most int64) {
		config.MaxMsgs = most
		if _, err := q.js.UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	set(1)
	if _, err := q.js.Publish(t.Context(), strings.ToLower(config.Name)+".filler", nil); err != nil {
		t.Fatal(err)
	}
	return set
}

// A result that finds no room waits, and its message with it.
func TestAResultWithoutAPlaceIsNotLost(t *testing.T) {
	server, gateway := startNATS(t), newGateway(t)
	queue := newQueue(t, server.client())
	room := queue.full(t, queue.results)
	queue.mustSend("one", "a text")
	c := startInside(t, arguments(t, server, gateway.URL, "--max-deliveries", "1"))
	eventually(t, "publishing it is tried again", func() bool {
		return testutil.ToFloat64(c.metrics.retries.WithLabelValues("results", "none")) > 1
	})
	if count(t, queue.work) != 1 {
		t.Fatal("the message was acknowledged before its result was durable")
	}
	room(10)
	eventually(t, "it is done", func() bool { return count(t, queue.work) == 0 && count(t, queue.results) == 2 })
	if gateway.made() != 1 || count(t, queue.dead) != 0 {
		t.Errorf("%d jobs, %d dead letters", gateway.made(), count(t, queue.dead))
	}
}

// What a consumer gives back as it ends does not come to itself again, where nobody would have it until AckWait is over: it has
// asked NATS for more messages than there are.
func TestWhatIsGivenBackGoesToAnotherOne(t *testing.T) {
	server, gateway := startNATS(t), newGateway(t)
	queue := newQueue(t, server.client())
	gateway.set(func(g *fakeGateway) { g.takes = time.Hour })
	queue.mustSend("one", "a text")
	given := arguments(t, server, gateway.URL, "--ack-wait", "1h", "--drain-timeout", "0s", "--max-deliveries", "1000")
	for range 100 {
		c := startInside(t, given)
		eventually(t, "it is worked on", func() bool { return testutil.ToFloat64(c.metrics.inFlight) == 1 })
		c.drained(t)
	}
}

func TestWhatWasGivenBackIsNotWorkedOn(t *testing.T) {
	d := new(delivery)
	if !d.claim() {
		t.Fatal("it is nobody's")
	}
	if _, err := new(consumer).work(t.Context(), d); !errors.Is(err, workpool.ErrEnding) {
		t.Error(err)
	}
}
