package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"triptych.dev/gateway/internal/command"
)

// kills is how many consumers are killed; TEST_KILLS asks for a long form.
func kills(t *testing.T) int {
	t.Helper()
	if asked := os.Getenv("TEST_KILLS"); asked != "" {
		count, err := strconv.Atoi(asked)
		if err != nil {
			t.Fatal(err)
		}
		return count
	}
	return 6
}

// randomness is of a seed that is logged; TEST_SEED repeats it.
func randomness(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if asked := os.Getenv("TEST_SEED"); asked != "" {
		var err error
		if seed, err = strconv.ParseUint(asked, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// onceEach fails the test unless each of so many messages has one job and one result.
func onceEach(t *testing.T, queue *queue, gateway *fakeGateway, messages int) {
	t.Helper()
	results := map[string]int{}
	for _, result := range all(t, queue.results) {
		results[result.Header.Get("Original-Msg-Id")]++
	}
	for id, times := range results {
		if times != 1 {
			t.Errorf("%d results of %s", times, id)
		}
	}
	if len(results) != messages || gateway.made() != messages || count(t, queue.dead) != 0 {
		t.Errorf("%d results and %d jobs of %d messages, %d dead letters", len(results), gateway.made(), messages, count(t, queue.dead))
	}
}

// Consumers that share the work are killed at random moments: each message has one job and one result all the same.
func TestKilledConsumersLoseAndRepeatNothing(t *testing.T) {
	t.Parallel()
	server, gateway := startNATS(t), newGateway(t)
	queue := newQueue(t, server.client())
	gateway.set(func(g *fakeGateway) { g.takes = 20 * time.Millisecond })
	given := arguments(t, server, gateway.URL, "--max-deliveries", "1000")
	first, second := startProcess(t, given), startProcess(t, given)
	const perKill = 30
	sent, random := 0, randomness(t)
	for range kills(t) {
		for range perKill {
			queue.mustSend(fmt.Sprint("message ", sent), "a text")
			sent++
		}
		// Somewhere in the middle of these.
		until := sent - perKill + 1 + random.IntN(perKill-5)
		eventually(t, "some are done", func() bool { return count(t, queue.results) >= until })
		first.kill()
		first, second = second, startProcess(t, given)
	}
	eventually(t, "all is acknowledged", func() bool { return count(t, queue.work) == 0 })
	onceEach(t, queue, gateway, sent)
}

// A consumer is killed after its job was made, and again after its result was published: the next one finds both.
func TestAKilledConsumersJobIsFoundAgain(t *testing.T) {
	t.Parallel()
	server, gateway := startNATS(t), newGateway(t)
	queue := newQueue(t, server.client())
	gateway.set(func(g *fakeGateway) { g.takes = time.Hour })
	queue.mustSend("one", "a text")
	given := arguments(t, server, gateway.URL)
	p := startProcess(t, given)
	eventually(t, "the job is made", func() bool { return gateway.made() == 1 })
	p.kill()
	gateway.set(func(g *fakeGateway) { g.takes = 0 })
	startInside(t, given)
	eventually(t, "it is done", func() bool { return count(t, queue.work) == 0 })
	onceEach(t, queue, gateway, 1)
	if got := all(t, queue.results)[0].Header.Get("Original-Deliveries"); got != "2" {
		t.Errorf("it was done in delivery %s", got)
	}
}

// A message that comes again when its streams have forgotten its id finds its job, and the result that is there.
func TestAResultIsThereOnceAlsoAfterTheWindow(t *testing.T) {
	server, gateway := startNATS(t), newGateway(t)
	queue := newQueue(t, server.client())
	for _, stream := range []jetstream.Stream{queue.work, queue.results} {
		config := stream.CachedInfo().Config
		config.Duplicates = 100 * time.Millisecond
		if _, err := queue.js.UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	c := startInside(t, arguments(t, server, gateway.URL))
	for times := 1; times <= 2; times++ {
		eventually(t, "it is published", func() bool {
			queue.mustSend("one", "a text")
			return testutil.ToFloat64(c.metrics.outcomes.WithLabelValues(outcomeAcked)) >= float64(times)
		})
	}
	eventually(t, "all is acknowledged", func() bool { return count(t, queue.work) == 0 })
	onceEach(t, queue, gateway, 1)
}

// A job that takes longer than AckWait is not delivered to anybody else.
func TestALongJobIsDeliveredOnce(t *testing.T) {
	t.Parallel()
	server, gateway := startNATS(t), newGateway(t)
	queue := newQueue(t, server.client())
	gateway.set(func(g *fakeGateway) { g.takes = 3 * time.Second })
	queue.mustSend("one", "a text")
	given := arguments(t, server, gateway.URL)
	startInside(t, given)
	startInside(t, given)
	eventually(t, "it is done", func() bool { return count(t, queue.work) == 0 })
	if got := all(t, queue.results)[0].Header.Get("Original-Deliveries"); got != "1" {
		t.Errorf("it was delivered %s times, though its consumer lives", got)
	}
}

func TestNATSIsKilledAndComesBack(t *testing.T) {
	t.Parallel()
	server, gateway := startNATS(t), newGateway(t)
	queue := newQueue(t, server.client())
	gateway.set(func(g *fakeGateway) { g.takes = 300 * time.Millisecond })
	c := startInside(t, arguments(t, server, gateway.URL, "--max-deliveries", "1000"))
	const messages = 40
	for i := range messages {
		queue.mustSend(fmt.Sprint("message ", i), "a text")
	}
	for _, least := range []int{5, 15} {
		eventually(t, "some are done", func() bool { return count(t, queue.results) >= least })
		server.kill()
		eventually(t, "it is not ready", func() bool { return !c.ready() })
		server.start()
	}
	eventually(t, "all is acknowledged", func() bool { return count(t, queue.work) == 0 })
	onceEach(t, queue, gateway, messages)
	if !c.ready() {
		t.Error("it is not ready")
	}
}

// Consumers may be there before anything else is.
func TestItWaitsForNATSAndStreams(t *testing.T) {
	server, gateway := startNATS(t), newGateway(t)
	server.kill()
	c := startInside(t, arguments(t, server, gateway.URL))
	eventually(t, "it waits", func() bool { return strings.Contains(c.log.String(), `"for":"NATS connection"`) })
	server.start()
	queue := newQueue(t, server.client())
	queue.mustSend("one", "a text")
	eventually(t, "it is done", func() bool { return count(t, queue.results) == 1 })
}

// Drained, a consumer finishes what ends in time, and has the rest delivered to another one at once.
func TestADrainedConsumerFinishesOrGivesBack(t *testing.T) {
	t.Parallel()
	server, gateway := startNATS(t), newGateway(t)
	queue := newQueue(t, server.client())
	gateway.set(func(g *fakeGateway) { g.takes = 700 * time.Millisecond })
	for i := range 8 {
		queue.mustSend(fmt.Sprint("message ", i), "a text")
	}
	given := arguments(t, server, gateway.URL, "--ack-wait", "1h")
	c := startProcess(t, append(given, "--drain-timeout", "30s"))
	eventually(t, "four are worked on", func() bool { return gateway.made() == 4 })
	terminate(t, c)
	if got := count(t, queue.results); got != 4 || gateway.made() != 4 {
		t.Fatalf("%d results of %d jobs after the drain, not of the 4 that ran:\n%s", got, gateway.made(), c.log)
	}

	gateway.set(func(g *fakeGateway) { g.takes = time.Hour })
	c = startProcess(t, append(given, "--drain-timeout", "200ms"))
	eventually(t, "the others are worked on", func() bool { return gateway.made() == 8 })
	terminate(t, c)

	// One that waits for the gateway gives back at once, however long it may drain.
	gateway.set(func(g *fakeGateway) {
		g.takes, g.fault = 0, func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(502); return true }
	})
	c = startProcess(t, append(given, "--drain-timeout", "1h"))
	eventually(t, "it waits for the gateway", func() bool { return strings.Contains(c.log.String(), `"for":"gateway"`) })
	terminate(t, c)

	gateway.set(func(g *fakeGateway) { g.fault = nil })
	startInside(t, given)
	eventually(t, "all is acknowledged, though AckWait is an hour", func() bool { return count(t, queue.work) == 0 })
	onceEach(t, queue, gateway, 8)
}

func terminate(t *testing.T, p *process) {
	t.Helper()
	_ = p.Process.Signal(syscall.SIGTERM)
	if err := p.Wait(); err != nil {
		t.Fatalf("its exit: %v\n%s", err, p.log)
	}
}

// A message whose consumers die each time is a dead letter, also where NATS itself counts deliveries.
func TestAMessageThatIsDeliveredTooOftenIsADeadLetter(t *testing.T) {
	server, gateway := startNATS(t), newGateway(t)
	queue := newQueue(t, server.client())
	gateway.set(func(g *fakeGateway) { g.takes = time.Hour })
	queue.mustSend("one", "a text")
	given := arguments(t, server, gateway.URL, "--max-deliveries", "2", "--drain-timeout", "0s")
	for delivery := 1; delivery <= 2; delivery++ {
		c := startProcess(t, given)
		eventually(t, "it is worked on", func() bool { return strings.Contains(c.log.String(), "bound") && ackPending(t, queue) == 1 })
		terminate(t, c)
	}
	startInside(t, given)
	eventually(t, "it is a dead letter", func() bool { return count(t, queue.work) == 0 && count(t, queue.dead) == 1 })
	if letter := all(t, queue.dead)[0]; letter.Header.Get("Dead-Reason") != "deliveries" || letter.Header.Get("Original-Deliveries") != "3" {
		t.Errorf("its headers: %v", letter.Header)
	}
}

func TestWhatTimeDoesNotMendIsAnError(t *testing.T) {
	server, gateway := startNATS(t), newGateway(t)
	newQueue(t, server.client())
	for setting, value := range map[string]string{"--dead-subject": "work.dead", "--results-subject": "work.results"} {
		c := startInside(t, arguments(t, server, gateway.URL, setting, value))
		err := <-c.ended
		if _, usage := errors.AsType[command.UsageError](err); !usage || !strings.Contains(err.Error(), "choose another stream") {
			t.Errorf("%s in the stream that is read: %v", setting, err)
		}
	}
}
