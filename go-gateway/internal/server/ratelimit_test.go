package server

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

// costing makes each request come to so many tokens, as the hot path judges it.
func (g *gateway) costing(tokens int) {
	g.hotpath.SetEmbed(func(ctx context.Context, request *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		if testkit.IsCanary(request) {
			return testkit.Embed(ctx, request)
		}
		if allowed := int(request.GetScheduling().GetMaxCharge()); allowed > 0 && tokens > allowed {
			return nil, testkit.Refusal(fault.ChargeTooHigh, "", "too much", allowed, tokens)
		}
		reply, err := testkit.Embed(ctx, request)
		if err == nil {
			reply.TokenCounts[0] = uint32(tokens)
		}
		return reply, err
	})
}

// limits are what the six headers say.
func limits(got reply) [6]string {
	var values [6]string
	for i, name := range rateLimitHeaders {
		values[i] = got.header.Get(name)
	}
	return values
}

func textOf(bytes int) string {
	return fmt.Sprintf(`{"model":%q,"input":%q}`, testkit.ModelName, strings.Repeat("a", bytes))
}

func TestEveryReplyTellsTheLimits(t *testing.T) {
	g := startGateway(t)
	g.eventually("the models being known", func() bool {
		_, err := g.Engine.Models()
		return err == nil
	})
	// A request holds what it may cost while it runs: 8 bytes and as many tokens round them.
	for _, c := range []struct {
		what, path, body string
		status           int
		want             [6]string
	}{
		{"a reply", "/v1/embeddings", textOf(8), 200, [6]string{"30", "29", "2s", "1000", "984", "960ms"}},
		{"a refusal of the hot path", "/v1/embeddings", textOf(0), 400, [6]string{"30", "28", "4s", "1000", "989", "660ms"}},
		{"a refused body", "/v1/embeddings", `{"input":`, 400, [6]string{"30", "27", "6s", "1000", "997", "180ms"}},
		{"what costs no tokens", "/v1/tokenize", oneText, 200, [6]string{"30", "26", "8s", "1000", "997", "180ms"}},
	} {
		if got := g.as("metered", c.path, c.body); got.status != c.status || limits(got) != c.want {
			t.Errorf("%s: got %d %v, want %v", c.what, got.status, limits(got), c.want)
		}
	}
	got := g.do(http.MethodGet, "/v1/models", "", "Authorization", "Bearer "+g.keys["metered"])
	if want := [6]string{"30", "25", "10s", "1000", "997", "180ms"}; got.status != 200 || limits(got) != want {
		t.Errorf("models: got %d %v", got.status, limits(got))
	}
}

// A good key is told its limits whatever its request comes to, also where they were not asked and where it was not met
// before; nobody else is. What is refused before it is counted counts nothing.
func TestRepliesThatCountNothingTellTheLimitsToo(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.MaxInflight = 1 })
	metered, restricted := "Bearer "+g.keys["metered"], "Bearer "+g.keys["restricted"]
	none, all := [6]string{}, [6]string{"30", "30", "0s", "1000", "1000", "0s"}
	began, release := g.hotpath.Block()
	done := make(chan reply)
	go func() { done <- g.post("/v1/embeddings", oneText) }()
	<-began
	for _, c := range []struct {
		what, method, path, body, authorization string
		status                                  int
		want                                    [6]string
	}{
		{"no path", "GET", "/v1/nothing", "", metered, 404, all},
		{"no path, with a body", "POST", "/v1/nothing", "{}", metered, 404, all},
		{"an unclean path", "GET", "//v1/models", "", metered, 404, all},
		{"no such method", "GET", "/v1/embeddings", "", metered, 405, all},
		{"no room", "GET", "/v1/models", "", metered, 503, all},
		{"no room for what calls a model", "POST", "/v1/embeddings", oneText, metered, 503, all},
		{"another endpoint", "POST", "/v1/moderations", `{"input":"a"}`, restricted, 403, [6]string{"1000000", "1000000", "0s"}},
		{"no path, without a key", "GET", "/v1/nothing", "", "", 404, none},
		{"no path, with a bad key", "GET", "/v1/nothing", "", metered + "0", 404, none},
		{"no such method, with a bad key", "GET", "/v1/embeddings", "", metered + "0", 405, none},
		{"a bad key", "GET", "/v1/models", "", metered + "0", 401, none},
		{"a probe's wrong method", "POST", "/livez", "", "", 405, none},
	} {
		if got := g.do(c.method, c.path, c.body, "Authorization", c.authorization); got.status != c.status || limits(got) != c.want {
			t.Errorf("%s: got %d %v, want %d %v", c.what, got.status, limits(got), c.status, c.want)
		}
	}
	close(release)
	<-done
	if got := g.do("GET", "/v1/limits", "", "Authorization", metered); got.status != http.StatusOK || limits(got) != all {
		t.Errorf("its limits: got %d %v", got.status, limits(got))
	}
	if got := g.do("GET", "/v1/models", "", "Authorization", metered); limits(got)[1] != "29" {
		t.Errorf("what counts: got %d %v", got.status, limits(got))
	}
	if got := g.do("GET", "/v1/nothing", "", "Authorization", metered); got.status != 404 || limits(got)[1] != "29" {
		t.Errorf("no path once more: got %d %v", got.status, limits(got))
	}
}

// A flood of what is refused is refused without a look, and without waiting for its body.
func TestRefusedBodiesCountAsRequests(t *testing.T) {
	g := startGateway(t)
	for range 30 {
		if got := g.as("metered", "/v1/embeddings", "{"); got.status != http.StatusBadRequest {
			t.Fatalf("got %d %s", got.status, got.body)
		}
	}
	got := g.as("metered", "/v1/embeddings", "{")
	if got.status != http.StatusTooManyRequests || got.header.Get("retry-after-ms") != "2000" || limits(got)[1] != "0" {
		t.Errorf("got %d %v", got.status, got.header)
	}
	if len(g.hotpath.Calls()) > 0 {
		t.Error("the hot path was asked")
	}
}

func TestAWaitForTokensIsTrue(t *testing.T) {
	g := startGateway(t)
	g.costing(400)
	for range 2 {
		if got := g.as("metered", "/v1/embeddings", textOf(600)); got.status != http.StatusOK {
			t.Fatalf("got %d %s", got.status, got.body)
		}
	}
	refused := g.as("metered", "/v1/embeddings", textOf(600))
	if refused.status != http.StatusTooManyRequests || refused.err.Code != "rate_limit_exceeded" || refused.header.Get("retry-after-ms") != "12000" ||
		!strings.Contains(refused.err.Message, "comes to 400") || limits(refused) != [6]string{"30", "27", "6s", "1000", "200", "48s"} {
		t.Errorf("got %d %s %v", refused.status, refused.body, limits(refused))
	}
	g.clock = g.clock.Add(12*time.Second - time.Microsecond)
	if got := g.as("metered", "/v1/embeddings", textOf(600)); got.status != http.StatusTooManyRequests || got.header.Get("retry-after-ms") != "1" {
		t.Errorf("1 µs early: got %d %s", got.status, got.body)
	}
	g.clock = g.clock.Add(time.Microsecond)
	if got := g.as("metered", "/v1/embeddings", textOf(600)); got.status != http.StatusOK {
		t.Errorf("in time: got %d %s", got.status, got.body)
	}
}

// The clock of these tests stands at 08:00 UTC.
func TestADaysTokensAreGoneUntilMidnight(t *testing.T) {
	g := startGateway(t)
	g.costing(500)
	for range 3 {
		if got := g.as("metered", "/v1/embeddings", textOf(600)); got.status != http.StatusOK {
			t.Fatalf("got %d %s", got.status, got.body)
		}
		g.clock = g.clock.Add(time.Minute)
	}
	got := g.as("metered", "/v1/embeddings", oneText)
	if got.status != http.StatusTooManyRequests || got.header.Get("retry-after") != "60" || got.header.Get("retry-after-ms") != "60000" ||
		got.header.Get("x-should-retry") != "false" || !strings.Contains(got.err.Message, "1500 tokens per day (UTC)") ||
		!strings.Contains(got.err.Message, "in 15h57m0s") || limits(got)[3] != "1500" || limits(got)[4] != "0" || limits(got)[5] != "15h57m0s" {
		t.Errorf("got %d %s %v", got.status, got.body, got.header)
	}
	g.clock = g.clock.Add(15*time.Hour + 57*time.Minute)
	if got := g.as("metered", "/v1/embeddings", oneText); got.status != http.StatusOK {
		t.Errorf("the next day: got %d %s", got.status, got.body)
	}
}

// Nothing is left of the minute, which would take 24 s, and something of the day, which refuses.
func TestTheHeadersTellOfTheLimitThatRefused(t *testing.T) {
	g := startGateway(t)
	g.costing(500)
	admitted := func() {
		t.Helper()
		if got := g.as("metered", "/v1/embeddings", textOf(600)); got.status != http.StatusOK {
			t.Fatalf("got %d %s", got.status, got.body)
		}
	}
	admitted()
	admitted()
	g.clock = g.clock.Add(24 * time.Second)
	g.costing(400)
	admitted()
	got := g.as("metered", "/v1/embeddings", textOf(600))
	if got.status != http.StatusTooManyRequests || got.header.Get("retry-after") != "60" || got.header.Get("x-should-retry") != "false" ||
		!strings.Contains(got.err.Message, "1500 tokens per day (UTC)") || !strings.Contains(got.err.Message, "in 15h59m36s") ||
		limits(got) != [6]string{"30", "29", "2s", "1500", "100", "15h59m36s"} {
		t.Errorf("got %d %s %v", got.status, got.body, got.header)
	}
}

func TestARequestThatThePlanNeverAdmitsIsTheClientsToMend(t *testing.T) {
	g := startGateway(t)
	g.costing(601)
	got := g.as("metered", "/v1/embeddings", textOf(1000))
	if got.status != http.StatusBadRequest || got.err.Code != "request_too_large" || got.err.Param == nil || *got.err.Param != "input" ||
		!strings.HasPrefix(got.err.Message, "`input` is too much: the request comes to 601 tokens") || got.header.Get("retry-after") != "" ||
		!strings.Contains(got.err.Message, "more than 600 (tokens_per_request of a tenant)") {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if limits(got) != [6]string{"30", "29", "2s", "1000", "1000", "0s"} {
		t.Errorf("got %v", limits(got))
	}
}

func TestRequestsAtOnceAreLimited(t *testing.T) {
	g := startGateway(t)
	began, release := g.hotpath.Block()
	replies := make(chan reply)
	for range 2 {
		go func() { replies <- g.as("metered", "/v1/embeddings", oneText) }()
		<-began
	}
	got := g.as("metered", "/v1/embeddings", oneText)
	if got.status != http.StatusTooManyRequests || got.err.Code != "concurrency_limit_exceeded" || got.header.Get("retry-after") != "1" {
		t.Errorf("got %d %s", got.status, got.body)
	}
	close(release)
	for range 2 {
		if got := <-replies; got.status != http.StatusOK {
			t.Errorf("got %d %s", got.status, got.body)
		}
	}
	if got := g.as("metered", "/v1/embeddings", oneText); got.status != http.StatusOK {
		t.Errorf("afterwards: got %d %s", got.status, got.body)
	}
}

// What the gateway has no room for costs nothing, and is told the limits all the same.
func TestARequestWithoutRoomCostsNothing(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.MaxInflight = 1 })
	g.as("metered", "/v1/embeddings", textOf(8))
	began, release := g.hotpath.Block()
	done := make(chan reply)
	go func() { done <- g.post("/v1/embeddings", oneText) }()
	<-began
	if got := g.as("metered", "/v1/embeddings", oneText); got.status != 503 || limits(got) != [6]string{"30", "29", "2s", "1000", "984", "960ms"} {
		t.Errorf("got %d %v", got.status, limits(got))
	}
	close(release)
	<-done
}

func TestATenantSeesItsOwnLimits(t *testing.T) {
	g := startGateway(t)
	g.costing(400)
	for range 3 {
		g.as("metered", "/v1/embeddings", textOf(600))
	}
	look := func() (report struct {
		Tenant, Plan string
		Degraded     bool
		Data         []map[string]any
		Refusals     []map[string]any `json:"recent_refusals"`
	}) {
		got := g.do(http.MethodGet, "/v1/limits", "", "Authorization", "Bearer "+g.keys["metered"])
		if got.status != http.StatusOK || limits(got)[1] != "27" {
			t.Fatalf("got %d %s %v", got.status, got.body, limits(got))
		}
		if err := json.Unmarshal(got.body, &report); err != nil {
			t.Fatal(err)
		}
		return report
	}
	look() // which is not counted
	report := look()
	if report.Tenant != "metered" || report.Plan != "metered" || report.Degraded || len(report.Data) != 6 || len(report.Refusals) != 1 {
		t.Fatalf("got %+v", report)
	}
	for i, want := range []map[string]any{
		{"limit": "requests_per_minute", "scope": "tenant", "class": "interactive", "max": 30.0, "used": 3.0, "remaining": 27.0, "reset_seconds": 6.0, "binding": false},
		{"limit": "tokens_per_minute", "scope": "tenant", "class": "interactive", "max": 1000.0, "used": 800.0, "remaining": 200.0, "reset_seconds": 48.0, "binding": true},
		{"limit": "tokens_per_day", "scope": "tenant", "class": "interactive", "max": 1500.0, "used": 800.0, "remaining": 700.0, "reset_seconds": 57600.0, "binding": false},
		{"limit": "concurrent_requests", "scope": "tenant", "class": "interactive", "max": 2.0, "used": 0.0, "remaining": 2.0, "reset_seconds": nil, "binding": false},
	} {
		if !maps.Equal(report.Data[i], want) {
			t.Errorf("got %v, want %v", report.Data[i], want)
		}
	}
	want := map[string]any{
		"created": 1_800_000_000.0, "limit": "tokens_per_minute", "scope": "tenant", "class": "interactive", "max": 1000.0, "tokens": 400.0,
		"retry_after_seconds": 12.0, "key": strings.Split(g.keys["metered"], "_")[1],
	}
	if !maps.Equal(report.Refusals[0], want) {
		t.Errorf("got %v, want %v", report.Refusals[0], want)
	}
}
