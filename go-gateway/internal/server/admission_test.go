package server

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"triptych.dev/gateway/internal/admission"
	"triptych.dev/gateway/internal/engine"
)

// as sends JSON with another tenant's key.
func (g *gateway) as(tenant, path, body string) reply {
	g.Helper()
	return g.do(http.MethodPost, path, body, "Authorization", "Bearer "+g.keys[tenant])
}

func TestRequestsBeyondATenantsShareAreRefused(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.MaxInflight = 16 })
	began, release := g.hotpath.Block()
	replies := make(chan reply, 16)
	const share = 12 // of 14 places beside a reserve of 2
	for range share {
		go func() { replies <- g.post("/v1/embeddings", oneText) }()
		<-began
	}
	refused := g.post("/v1/embeddings", oneText)
	if refused.status != 503 || refused.err.Code != "queue_full" || refused.header.Get("retry-after") == "" || !strings.Contains(refused.err.Message, "16 requests") {
		t.Errorf("got %d %s", refused.status, refused.body)
	}
	if got := refused.header.Get("x-ratelimit-remaining-requests"); got != strconv.Itoa(1_000_000-share) {
		t.Errorf("a request that costs nothing left %s requests", got)
	}
	go func() { replies <- g.as("tiny", "/v1/embeddings", oneText) }()
	g.await("another tenant's request", began)
	if got := g.get("/livez"); got.status != http.StatusOK {
		t.Errorf("livez: got %d", got.status)
	}
	close(release)
	for range share + 1 {
		if got := <-replies; got.status != http.StatusOK {
			t.Errorf("got %d %s", got.status, got.body)
		}
	}
	g.stillServes()
}

// stepped is a clock that stands still until a test moves it on.
type stepped struct{ since atomic.Int64 }

func (s *stepped) now() time.Time { return time.Unix(1_800_000_000, s.since.Load()) }

func (s *stepped) advance(d time.Duration) { s.since.Add(int64(d)) }

// waits are what a refusal says of when to come again.
func waits(got reply) [3]string {
	return [3]string{got.header.Get("retry-after"), got.header.Get("retry-after-ms"), got.header.Get("x-should-retry")}
}

// Whoever finds all slots held is told to wait for as long as one of twelve takes, going by how long they were held before.
func TestTheWaitForASlotIsMeasured(t *testing.T) {
	for held, want := range map[time.Duration][3]string{
		120 * time.Millisecond: {"1", "100"}, // at least
		24 * time.Second:       {"2", "2000"},
		time.Hour:              {"60", "60000"}, // at most
	} {
		clock := &stepped{}
		g := startGateway(t, func(_ *engine.Options, o *Options) { o.MaxInflight, o.Now = 16, clock.now })
		refused := func() reply {
			const share = 12
			began, release := g.hotpath.Block()
			replies := make(chan reply, share)
			for range share {
				go func() { replies <- g.post("/v1/embeddings", oneText) }()
				<-began
			}
			got := g.post("/v1/embeddings", oneText)
			clock.advance(held)
			close(release)
			for range share {
				<-replies
			}
			return got
		}
		if got := refused(); got.status != http.StatusServiceUnavailable || waits(got) != [3]string{"1", "1000"} {
			t.Errorf("before anything was measured: got %d %v", got.status, waits(got))
		}
		if got := refused(); got.status != http.StatusServiceUnavailable || waits(got) != want {
			t.Errorf("held for %v: got %d %v, want %v", held, got.status, waits(got), want)
		}
	}
}

func TestTheWaitForOtherRoomIsMeasured(t *testing.T) {
	const large = 8 << 20
	clock := &stepped{}
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.MaxInflight, o.MaxBodiesBytes, o.Now = 16, 8*large, clock.now })
	job := g.job("acme")
	began, release := g.hotpath.Block()
	replies := make(chan reply, 2)
	go func() { replies <- g.post("/v1/embeddings", oneText) }()
	go func() { replies <- g.get(jobsRoute + "/" + job.ID + "?wait=60") }()
	<-began
	g.eventually("a request that waits", func() bool { return g.waits.Used() == 1 })
	clock.advance(24 * time.Second)
	close(release)
	g.Drain()
	for range cap(replies) {
		if got := <-replies; got.status != http.StatusOK {
			t.Fatalf("got %d %s", got.status, got.body)
		}
	}
	g.fill(g.bodies, large, 6)
	if got := g.sendWhole(g.dial(), "acme", make([]byte, large)); waits(got) != [3]string{"5", "4008"} { // and 16 KiB beside it
		t.Errorf("bytes: got %d %s %v", got.status, got.body, waits(got))
	}
	g.fill(g.waits, 1, 180)
	if got := g.get(jobsRoute + "/" + job.ID + "?wait=1"); waits(got) != [3]string{"1", "134"} {
		t.Errorf("waits: got %d %s %v", got.status, got.body, waits(got))
	}
}

// fill takes as much of a pool as a tenant may have, which is so often an amount.
func (g *gateway) fill(pool *admission.Pool, amount int64, want int) {
	g.Helper()
	taken := 0
	for pool.TryAcquire("acme", amount) {
		taken++
	}
	if taken != want {
		g.Fatalf("got %d times %d of %d", taken, amount, pool.Total())
	}
}

func TestHalfSentBodiesOfOneTenantCloseTheDoorToNobody(t *testing.T) {
	const places, pool = 8, 4 << 20
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.MaxInflight, o.MaxBodiesBytes = places, pool })
	for range 10 * places { // more than there are places
		fmt.Fprintf(g.dial(), "%s{", g.head(1000))
	}
	g.eventually("bodies on their way", func() bool { return g.bodies.Used() >= 10*places*requestBytes })
	if got := g.post("/v1/embeddings", oneText); got.status != http.StatusOK {
		t.Errorf("the same tenant: got %d %s", got.status, got.body)
	}
	refused := false
	for i := 0; !refused && i < 100; i++ { // until it has its share of the bytes
		connection := g.dial()
		before := g.bodies.Used()
		fmt.Fprintf(connection, "%s{", g.head(pool/16))
		g.eventually("an answer or more bytes", func() bool {
			refused = g.drains.Used() > 0
			return refused || g.bodies.Used() > before
		})
	}
	if !refused {
		t.Fatal("one tenant may hold all bytes: this test proves nothing")
	}
	for range 3 {
		if got := g.as("tiny", "/v1/embeddings", oneText); got.status != http.StatusOK {
			t.Errorf("another tenant: got %d %s", got.status, got.body)
		}
	}
}

func TestABodyOfUnknownLengthTakesBytesAsItGrows(t *testing.T) {
	const pool = 4 << 20
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.MaxBodiesBytes = pool })
	g.eventually("ready", g.Ready)
	connection := g.dial()
	fmt.Fprintf(connection, "POST /v1/embeddings HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n", g.keys["tiny"])
	const chunk = 1 << 20
	for range 5 {
		fmt.Fprintf(connection, "%x\r\n%s\r\n", chunk, bytes.Repeat([]byte(" "), chunk))
	}
	fmt.Fprint(connection, "0\r\n\r\n")
	got, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		t.Fatal(err)
	}
	if refused := g.read(got); refused.status != 503 || refused.err.Code != "queue_full" || !strings.Contains(refused.err.Message, "bytes") {
		t.Errorf("got %d %s", refused.status, refused.body)
	}
	// It was charged when it began, and given back.
	if got := g.as("tiny", "/v1/embeddings", oneText); got.status != http.StatusOK || got.header.Get(rateLimitHeaders[1]) != "19" {
		t.Errorf("got %d %v", got.status, got.header)
	}
	g.eventually("no bytes held", func() bool { return g.bodies.Used() == 0 })
}

// sendWhole writes a request with a body to its end before it reads, as many clients do, and returns the reply.
func (g *gateway) sendWhole(connection net.Conn, tenant string, body []byte) reply {
	g.Helper()
	head := strings.Replace(g.head(len(body)), g.keys["acme"], g.keys[tenant], 1)
	if _, err := connection.Write([]byte(head)); err != nil {
		g.Fatal(err)
	}
	for rest := body; len(rest) > 0; { // piece by piece, so that a refusal overtakes it
		piece := rest[:min(len(rest), 64<<10)]
		if _, err := connection.Write(piece); err != nil {
			g.Fatalf("%d of %d bytes were left to send: %v", len(rest), len(body), err)
		}
		rest = rest[len(piece):]
	}
	got, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		g.Fatal(err)
	}
	return g.read(got)
}

func TestARefusedBodyIsReadToItsEnd(t *testing.T) {
	const large = 8 << 20
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.MaxBodiesBytes = 8 * large })
	for range 20 {
		g.as("tiny", "/v1/embeddings", oneText)
	}
	connection := g.dial()
	for range 2 { // on one connection, since nothing is left of the first
		if got := g.sendWhole(connection, "tiny", make([]byte, large)); got.status != http.StatusTooManyRequests || got.header.Get("retry-after") == "" || got.closes {
			t.Fatalf("got %d %s, closes %v", got.status, got.body, got.closes)
		}
	}
	if got := g.sendWhole(g.dial(), "acme", make([]byte, large+1000)); got.status != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d %s", got.status, got.body)
	}
	for g.bodies.TryAcquire("acme", large) {
	}
	if got := g.sendWhole(g.dial(), "acme", make([]byte, large)); got.status != http.StatusServiceUnavailable || got.err.Code != "queue_full" {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestAClientThatAsksBeforeItSendsIsToldAtOnce(t *testing.T) {
	g := startGateway(t)
	for range 20 {
		g.as("tiny", "/v1/embeddings", oneText)
	}
	connection := g.dial()
	head := strings.Replace(g.head(8<<20), g.keys["acme"], g.keys["tiny"], 1)
	fmt.Fprint(connection, strings.Replace(head, "Host:", "Expect: 100-continue\r\nHost:", 1))
	got, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil || got.StatusCode != http.StatusTooManyRequests || !got.Close {
		t.Errorf("got %+v, %v", got, err)
	}
	got.Body.Close()
}

func TestARefusedBodyThatDoesNotComeIsNotWaitedFor(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.BodyTimeout = patience / 100 })
	for range 20 {
		g.as("tiny", "/v1/embeddings", oneText)
	}
	connection := g.dial()
	fmt.Fprintf(connection, "%s{", strings.Replace(g.head(1<<20), g.keys["acme"], g.keys["tiny"], 1))
	got, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil || got.StatusCode != http.StatusTooManyRequests || !got.Close {
		t.Errorf("got %+v, %v", got, err)
	}
	got.Body.Close()
}
