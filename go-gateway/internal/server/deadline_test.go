package server

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/identity"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/testkit"
)

// deadlines makes the fake say until when each call is to be done.
func (g *gateway) deadlines() <-chan time.Duration {
	told := make(chan time.Duration, 1)
	g.hotpath.SetEmbed(func(ctx context.Context, request *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		if deadline, has := ctx.Deadline(); has && !testkit.IsCanary(request) {
			told <- time.Until(deadline)
		}
		return testkit.Embed(ctx, request)
	})
	return told
}

func TestTheHotpathIsToldOfTheRequestsTimeout(t *testing.T) {
	g := startGateway(t)
	told := g.deadlines()
	for sent, want := range map[string]time.Duration{"": patience, "3.5": 3500 * time.Millisecond, "86400": patience} {
		var headers []string
		if sent != "" {
			headers = []string{timeoutHeader, sent}
		}
		if got := g.post("/v1/embeddings", oneText, headers...); got.status != http.StatusOK {
			t.Errorf("%s: %d %s", sent, got.status, got.body)
		}
		if got := <-told; got > want || got < want-2*time.Second {
			t.Errorf("%q s: the hot path has %v of %v", sent, got, want)
		}
	}
}

func TestATimeoutThatIsNoneIsRefused(t *testing.T) {
	g := startGateway(t)
	for _, sent := range []string{"", "0", "0.000", "-1", "1e3", "86400.1", "99999", "1.2345", "1s", "NaN", strings.Repeat("9", 400)} {
		got := g.post("/v1/embeddings", oneText, timeoutHeader, sent)
		if got.status != http.StatusBadRequest || got.err.Code != "invalid_value" ||
			!strings.Contains(got.err.Message, "X-Request-Timeout must be one number of seconds from 0.001 to 86400") {
			t.Errorf("%.20q: %d %s", sent, got.status, got.body)
		}
	}
	g.eventually("ready", g.Ready) // models are listed by then
	if got := g.get("/v1/models"); got.status != http.StatusOK {
		t.Errorf("without: %d", got.status)
	}
}

func TestARequestEndsWithItsOwnTime(t *testing.T) {
	g := startGateway(t)
	left := make(chan struct{}, 1)
	g.hotpath.SetEmbed(func(ctx context.Context, request *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		if testkit.IsCanary(request) {
			return testkit.Embed(ctx, request)
		}
		<-ctx.Done()
		left <- struct{}{}
		return nil, ctx.Err()
	})
	got := g.post("/v1/embeddings", oneText, timeoutHeader, "0.2", "X-Request-Id", "short")
	if got.status != http.StatusGatewayTimeout || got.err.Code != "deadline_exceeded" || got.header.Get("X-Should-Retry") != "false" {
		t.Errorf("got %d %s", got.status, got.body)
	}
	g.await("the end of the work", left)
	if line := g.accessLine("short"); line["reason"] != "DEADLINE_EXCEEDED" {
		t.Errorf("logged as %v", line)
	}
	if !g.Ready() {
		t.Error("a client's short time makes the gateway not ready")
	}
}

func TestABodyThatComesTooLateForTheRequestsTime(t *testing.T) {
	g := startGateway(t)
	connection := g.dial()
	fmt.Fprint(connection, strings.Replace(g.head(100), "Host:", "X-Request-Timeout: 0.1\r\nHost:", 1))
	sent, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := g.read(sent); got.status != http.StatusGatewayTimeout || !strings.Contains(got.err.Message, "within its own 100ms") {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestAPlanBoundsARequestsTime(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, o *Options) {
		o.Authenticator = someone{
			Tenant: "acme", KeyID: "key",
			Plan: identity.Plan{Name: "quick", MaxSeconds: 4, Tenant: identity.ClassLimits{{RequestsPerMinute: 1000}, quota.Limits{RequestsPerMinute: 1000}}},
		}
	})
	told := g.deadlines()
	for sent, want := range map[string]time.Duration{"8": 4 * time.Second, "2": 2 * time.Second} {
		g.post("/v1/embeddings", oneText, timeoutHeader, sent)
		if got := <-told; got > want || got < want-2*time.Second {
			t.Errorf("%q s: the hot path has %v of %v", sent, got, want)
		}
	}
}

func TestWhatCannotBeBegunInTimeIsRefusedAtOnce(t *testing.T) {
	g := startGateway(t)
	const backlog = 20 // seconds
	g.hotpath.SetLoad(&inferencev1.ModelLoad{Model: testkit.ModelName, QueuedTokens: 1000 * backlog, TokensPerSecond: 1000})
	g.eventually("the load", func() bool { return g.Engine.Backlog(testkit.ModelName) == backlog*time.Second })
	// Alone, a tenant has all that is queued ahead of it.
	got := g.post("/v1/embeddings", oneText, timeoutHeader, "5")
	if got.status != http.StatusServiceUnavailable || got.err.Code != "queue_full" || !strings.Contains(got.err.Message, "takes about 20s") {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if after := got.header.Get("Retry-After"); after != "15" && after != "16" {
		t.Errorf("Retry-After is %q", after)
	}
	for _, enough := range [][]string{nil, {timeoutHeader, "30"}} {
		if got := g.post("/v1/embeddings", oneText, enough...); got.status != http.StatusOK {
			t.Errorf("%q: %d %s", enough, got.status, got.body)
		}
	}
	// Beside one that has all of it, another one's turn comes soon.
	if !g.slots.TryAcquire("globex", 99) {
		t.Fatal("no room")
	}
	defer g.slots.Release("globex", 99)
	if got := g.post("/v1/embeddings", oneText, timeoutHeader, "5"); got.status != http.StatusOK {
		t.Errorf("beside a flood: %d %s", got.status, got.body)
	}
}

// said is what the hot path last said of its load.
func (g *gateway) said() engine.ModelLoad {
	_, replicas := g.Engine.Ready()
	for _, model := range replicas[0].Models {
		if model.Name == testkit.ModelName {
			return model.Load
		}
	}
	return engine.ModelLoad{}
}

func TestWhatTakesTooLongByItselfIsRefusedAtOnce(t *testing.T) {
	g := startGateway(t)
	g.eventually("ready", g.Ready) // models are listed by then
	large := fmt.Sprintf(`{"model":%q,"input":[%s"a"]}`, testkit.ModelName, strings.Repeat(`"ten words that a model reads, however it does so",`, 2000))
	ask := func(body string, headers ...string) reply { return g.post("/v1/embeddings", body, headers...) }
	// Of a rate that was measured with hardly anything to do nothing is known.
	g.hotpath.SetLoad(&inferencev1.ModelLoad{Model: testkit.ModelName, RunningTokens: 10, TokensPerSecond: 100})
	g.eventually("the load", func() bool { return g.said().RunningTokens == 10 })
	if got := ask(large, timeoutHeader, "5"); got.status != http.StatusOK {
		t.Errorf("before it was busy: %d %.200s", got.status, got.body)
	}
	const rate = 1000.0
	g.hotpath.SetLoad(&inferencev1.ModelLoad{Model: testkit.ModelName, QueuedTokens: 5000, TokensPerSecond: rate})
	g.eventually("a rate that was measured at work", func() bool { return g.Engine.Fastest(testkit.ModelName) == rate })
	g.hotpath.SetLoad(&inferencev1.ModelLoad{Model: testkit.ModelName, TokensPerSecond: rate / 10})
	g.eventually("nothing to do", func() bool { return g.Engine.Backlog(testkit.ModelName) == 0 })
	before := len(g.hotpath.Calls())
	got := ask(large, timeoutHeader, "4") // it has 20,001 words
	if got.status != http.StatusGatewayTimeout || got.err.Code != "deadline_exceeded" || got.header.Get("X-Should-Retry") != "false" ||
		!strings.Contains(got.err.Message, "takes 5.001s or more by itself") {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if asked := len(g.hotpath.Calls()) - before; asked != 0 {
		t.Errorf("the hot path was asked %d times", asked)
	}
	for body, headers := range map[string][]string{large: {timeoutHeader, "6"}, large + " ": nil, oneText: {timeoutHeader, "4"}} {
		if got := ask(body, headers...); got.status != http.StatusOK {
			t.Errorf("%.40s %q: %d %.200s", body, headers, got.status, got.body)
		}
	}
}
