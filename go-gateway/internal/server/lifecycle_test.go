package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/adminapi"
	"triptych.dev/gateway/internal/engine"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

func startHandler(t *testing.T, handler http.Handler) string {
	t.Helper()
	started := httptest.NewServer(handler)
	t.Cleanup(func() { http.DefaultClient.CloseIdleConnections(); started.Close() })
	return started.URL
}

// dial opens a raw connection to the gateway.
func (g *gateway) dial() net.Conn {
	g.Helper()
	connection, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		g.Fatal(err)
	}
	g.Cleanup(func() { connection.Close() })
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		g.Fatal(err)
	}
	return connection
}

func (g *gateway) head(contentLength int) string {
	return fmt.Sprintf("POST /v1/embeddings HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", g.keys["acme"], contentLength)
}

func TestHalfARequestNeverReachesTheHotpath(t *testing.T) {
	g := startGateway(t)
	for range 20 {
		fmt.Fprintf(g.dial(), "%s%s", g.head(len(oneText)), oneText[:len(oneText)-1])
	}
	g.eventually("20 bodies on their way", func() bool { return g.bodies.Used() >= 20*requestBytes })
	g.stillServes()
	if calls := len(g.hotpath.Calls()); calls != 1 {
		t.Errorf("the hot path got %d calls", calls)
	}
}

func TestABodyThatBreaksOffIsCancelled(t *testing.T) {
	g := startGateway(t)
	connection := g.dial()
	fmt.Fprintf(connection, "%s%s", strings.Replace(g.head(len(oneText)), "Host:", "X-Request-Id: half\r\nHost:", 1), oneText[:5])
	connection.Close()
	if line := g.accessLine("half"); line["reason"] != "CANCELLED" || line["status"] != 499.0 {
		t.Errorf("logged as %v", line)
	}
}

func TestChunkedBodies(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.MaxBodyBytes = 1000 })
	send := func(chunks string) reply {
		connection := g.dial()
		fmt.Fprintf(connection, "POST /v1/embeddings HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n%s", g.keys["acme"], chunks)
		got, err := http.ReadResponse(bufio.NewReader(connection), nil)
		if err != nil {
			t.Fatal(err)
		}
		return g.read(got)
	}
	chunk := func(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }
	if got := send(chunk(oneText[:10]) + chunk(oneText[10:]) + "0\r\n\r\n"); got.status != http.StatusOK {
		t.Errorf("good: got %d %s", got.status, got.body)
	}
	if got := send(chunk(strings.Repeat(" ", 1001))); got.status != 413 || !strings.Contains(got.err.Message, "1000 bytes") {
		t.Errorf("too large: got %d %s", got.status, got.body)
	}
	if got := send("zz\r\n"); got.status != 400 || got.err.Code != "invalid_json" {
		t.Errorf("broken: got %d %s", got.status, got.body)
	}
}

func TestTheBodyTimeoutDoesNotCutOffTheWait(t *testing.T) {
	const bodyTimeout = 50 * time.Millisecond
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.BodyTimeout = bodyTimeout })
	g.hotpath.SetEmbed(func(ctx context.Context, request *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		select {
		case <-time.After(3 * bodyTimeout): // the inference takes its time
			return testkit.Embed(ctx, request)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	if got := g.post("/v1/embeddings", oneText); got.status != http.StatusOK {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestAClientThatLeavesIsGoneFromTheHotpath(t *testing.T) {
	g := startGateway(t)
	began, left := make(chan struct{}, 1), make(chan struct{}, 1)
	g.hotpath.SetEmbed(func(ctx context.Context, request *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		if testkit.IsCanary(request) {
			return testkit.Embed(ctx, request)
		}
		began <- struct{}{}
		<-ctx.Done()
		left <- struct{}{}
		return nil, ctx.Err()
	})
	connection := g.dial()
	fmt.Fprintf(connection, "%s%s", strings.Replace(g.head(len(oneText)), "Host:", "X-Request-Id: leaver\r\nHost:", 1), oneText)
	<-began
	connection.Close()
	select {
	case <-left:
	case <-time.After(patience):
		t.Fatal("the work goes on for nobody")
	}
	if line := g.accessLine("leaver"); line["reason"] != "CANCELLED" || line["tenant"] != "acme" {
		t.Errorf("logged as %v", line)
	}
}

func TestAClientThatDoesNotReadIsDropped(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.WriteTimeout = 100 * time.Millisecond })
	connection := g.dial()
	if err := connection.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	// 9 MB of numbers: more than the sockets' buffers hold.
	body := `{"model":"all-minilm-l6-v2","input":["a"` + strings.Repeat(`,"a"`, testkit.MaxInputs-1) + `]}`
	fmt.Fprintf(connection, "%s%s", strings.Replace(g.head(len(body)), "Host:", "X-Request-Id: deaf\r\nHost:", 1), body)
	if line := g.accessLine("deaf"); line["reason"] != "CANCELLED" || line["status"] != 499.0 {
		t.Errorf("logged as %v", line)
	}
	g.eventually("no request in flight", func() bool { return g.slots.Used() == 0 })
}

func TestReadyzFollowsTheHotpathAndDraining(t *testing.T) {
	g := startGateway(t)
	status := func() int { return g.get("/readyz").status }
	g.eventually("ready", func() bool { return status() == http.StatusOK })
	g.awaitConnections()
	if got := g.get("/readyz"); string(got.body) != `{"ready":true}` {
		t.Errorf("anybody is told %s", got.body)
	}
	operations := startHandler(t, g.Operations())
	inFull := func() (status int, told readiness) {
		sent, err := http.Get(operations + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		got := g.read(sent)
		if err := json.Unmarshal(got.body, &told); err != nil {
			t.Fatal(err)
		}
		return got.status, told
	}
	model := adminapi.Model{ID: testkit.ModelName, State: "ready", Proven: true}
	if status, told := inFull(); status != http.StatusOK || !told.Ready || told.Draining || len(told.Replicas) != 1 || told.Replicas[0].Address != g.hotpath.Address ||
		!told.Replicas[0].Connected || !slices.Equal(told.Replicas[0].Models, []adminapi.Model{model}) {
		t.Errorf("operators are told %d %+v", status, told)
	}
	began, release := g.hotpath.Block()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		g.post("/v1/embeddings", `{"model":"all-minilm-l6-v2","input":"a text"}`)
	}()
	g.await("the call", began)
	if _, told := inFull(); told.Replicas[0].Calls != 1 || told.Replicas[0].Tokens == 0 || told.Replicas[0].Load == 0 || told.Replicas[0].Ejected {
		t.Errorf("of a replica with a call operators are told %+v", told.Replicas[0])
	}
	close(release)
	g.await("its answer", answered)
	g.hotpath.Stop()
	g.eventually("not ready", func() bool { return status() == http.StatusServiceUnavailable })
	if got := g.get("/livez"); got.status != http.StatusOK {
		t.Errorf("livez: got %d", got.status)
	}
	if got := g.get("/readyz"); string(got.body) != `{"ready":false}` {
		t.Errorf("anybody is told %s", got.body)
	}
	if status, told := inFull(); status != http.StatusServiceUnavailable || told.Replicas[0].ListError == "" {
		t.Errorf("operators are told %d %+v", status, told)
	}
	testkit.StartHotpath(t, g.hotpath.Address)
	g.eventually("ready again", func() bool { return status() == http.StatusOK })
	g.eventually("the other connection", func() bool { return g.post("/v1/embeddings", oneText).status == http.StatusOK })
	if !strings.Contains(g.scrape(), "gateway_ready 1") {
		t.Error("gateway_ready is not 1")
	}
	g.Drain()
	if got := status(); got != http.StatusServiceUnavailable {
		t.Errorf("draining: got %d", got)
	}
	if status, told := inFull(); status != http.StatusServiceUnavailable || !told.Draining {
		t.Errorf("operators are told %d %+v", status, told)
	}
	if got := g.post("/v1/embeddings", oneText); got.status != http.StatusOK || !got.closes {
		t.Errorf("while draining: got %d, closes %v", got.status, got.closes)
	}
	if !strings.Contains(g.scrape(), "gateway_ready 0") {
		t.Error("gateway_ready is not 0")
	}
}

func TestLogsTellEverythingButInputsAndKeys(t *testing.T) {
	g := startGateway(t)
	const words = "confidential-words"
	g.post("/v1/embeddings", `{"model":"all-minilm-l6-v2","input":["`+words+`","a"]}`, "X-Request-Id", "good")
	g.post("/v1/embeddings", `{"model":"all-minilm-l6-v2","input":"a","encoding_format":"`+words+`"}`, "X-Request-Id", "bad")
	g.post("/v1/embeddings", `{"model":"`+words+`","input":"a"}`, "X-Request-Id", "unknown")
	g.post("/v1/tokenize", `{"model":"all-minilm-l6-v2","input":"`+words+`"}`, "X-Request-Id", "tokens")
	g.do("POST", "/v1/embeddings", oneText, "Authorization", "Bearer trip_"+words, "X-Request-Id", "stranger")
	g.get("/" + words)
	for id, body := range map[string]string{"unknown-field": `{"` + words + `":1}`, "its-name": `{"` + g.keys["acme"] + `":1}`} {
		if got := g.post("/v1/embeddings", body, "X-Request-Id", id); got.status != 400 || got.err.Param == nil {
			t.Errorf("%s: got %d %s", id, got.status, got.body)
		}
		if line := g.accessLine(id); line["param"] != nil {
			t.Errorf("%s is logged with the param %v", id, line["param"])
		}
	}
	line := g.accessLine("good")
	for name, want := range map[string]any{
		"message": "request", "level": "INFO", "tenant": "acme", "route": "/v1/embeddings", "method": "POST", "status": 200.0, "reason": "OK",
		"model": "all-minilm-l6-v2", "inputs": 2.0, "tokens": 6.0, "tokenize_ms": 0.1, "queue_ms": 0.2, "inference_ms": 3.0,
	} {
		if line[name] != want {
			t.Errorf("%s is %v in %v", name, line[name], line)
		}
	}
	if line["duration_ms"] == nil || len(line["trace_id"].(string)) != 32 {
		t.Errorf("got %v", line)
	}
	if line := g.accessLine("bad"); line["reason"] != "INVALID_VALUE" || line["param"] != "encoding_format" {
		t.Errorf("got %v", line)
	}
	g.accessLine("tokens")
	g.accessLine("unknown")
	if line := g.accessLine("stranger"); line["reason"] != "INVALID_API_KEY" || line["tenant"] != nil {
		t.Errorf("got %v", line)
	}
	g.checkNotLogged(words)
}

func TestMetricsCountRequests(t *testing.T) {
	g := startGateway(t)
	g.post("/v1/embeddings", oneText)
	g.post("/v1/embeddings", `{`)
	g.get("/v1/models/none")
	g.get("/nowhere")
	for _, line := range []string{
		`gateway_requests_total{reason="OK",route="/v1/embeddings",status="200"} 1`,
		`gateway_requests_total{reason="INVALID_JSON",route="/v1/embeddings",status="400"} 1`,
		`gateway_requests_total{reason="ROUTE_NOT_FOUND",route="unknown",status="404"} 1`,
		`gateway_request_seconds_count{route="/v1/models/{id}"} 1`,
		`gateway_tokens_total{model="all-minilm-l6-v2",tenant="acme"} 3`,
		`gateway_hotpath_seconds_count{method="ListModels",outcome="OK"}`,
	} {
		g.eventually(line+" in the metrics", func() bool { return strings.Contains(g.scrape(), line) })
	}
}

func TestOperationsListenerHasNoAPI(t *testing.T) {
	g := startGateway(t)
	url := startHandler(t, g.Operations())
	for path, status := range map[string]int{"/livez": 200, "/metrics": 200, "/v1/models": 404, "/": 404} {
		sent, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.read(sent); got.status != status {
			t.Errorf("%s: got %d", path, got.status)
		}
	}
}
