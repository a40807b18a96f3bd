package server

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/engine"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

// writeTimeout is what the listener gives a stream to be written in, and a handshake, unless the gateway sees to that.
const writeTimeout = time.Second

// http2Client starts a listener of HTTP/2, and returns a client of one connection.
func (g *gateway) http2Client() *http.Client {
	g.Helper()
	listener := httptest.NewUnstartedServer(g.API())
	listener.EnableHTTP2 = true
	listener.Config.WriteTimeout = writeTimeout
	listener.StartTLS()
	g.Cleanup(listener.Close)
	g.url = listener.URL
	client := listener.Client()
	g.Cleanup(client.CloseIdleConnections)
	return client
}

// sendHTTP2 sends a request with acme's key over HTTP/2, and reports whether its connection was there already.
func (g *gateway) sendHTTP2(client *http.Client, path string, body io.Reader, headers ...string) (sent *http.Response, reused bool) {
	g.Helper()
	ctx, cancel := context.WithTimeout(g.Context(), patience)
	g.Cleanup(cancel)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) { reused = got.Reused }})
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+path, body)
	if err != nil {
		g.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+g.keys["acme"])
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	sent, err = client.Do(request)
	if err != nil {
		g.Fatal(err)
	}
	if sent.ProtoMajor != 2 {
		g.Fatalf("this is %s", sent.Proto)
	}
	g.Cleanup(func() { sent.Body.Close() })
	return sent, reused
}

func TestOverHTTP2AReplyMayTakeLongerThanItsWriting(t *testing.T) {
	g := startGateway(t)
	g.hotpath.SetEmbed(func(ctx context.Context, request *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		<-time.After(writeTimeout + writeTimeout/2) // the inference takes its time
		return testkit.Embed(ctx, request)
	})
	sent, _ := g.sendHTTP2(g.http2Client(), "/v1/embeddings", strings.NewReader(oneText))
	if got := g.read(sent); got.status != http.StatusOK {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestOverHTTP2ARefusedBodyEndsNoConnection(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.MaxBodyBytes, o.BodyTimeout = 1000, 100*time.Millisecond })
	client := g.http2Client()
	large := strings.NewReader(strings.Repeat(" ", 1001))
	sent, _ := g.sendHTTP2(client, "/v1/embeddings", large)
	if got := g.read(sent); got.status != http.StatusRequestEntityTooLarge {
		t.Errorf("too large: %d %s", got.status, got.body)
	}
	sent, reused := g.sendHTTP2(client, "/v1/embeddings", io.LimitReader(strings.NewReader(strings.Repeat(" ", 1001)), 1001)) // of unknown length
	if got := g.read(sent); got.status != http.StatusRequestEntityTooLarge || !reused {
		t.Errorf("too large in the end: %d %s; the connection was kept: %v", got.status, got.body, reused)
	}
	never, stop := io.Pipe()
	defer stop.Close()
	sent, reused = g.sendHTTP2(client, "/v1/embeddings", never)
	if got := g.read(sent); got.status != http.StatusRequestTimeout || !reused {
		t.Errorf("a body that never comes: %d %s; the connection was kept: %v", got.status, got.body, reused)
	}
	sent, reused = g.sendHTTP2(client, "/v1/embeddings", strings.NewReader(oneText))
	if got := g.read(sent); got.status != http.StatusOK || !reused {
		t.Errorf("afterwards: %d %s; the connection was kept: %v", got.status, got.body, reused)
	}
}

func TestOverHTTP2ABodyThatBreaksOffIsCancelled(t *testing.T) {
	g := startGateway(t)
	client := g.http2Client()
	ctx, cancel := context.WithCancel(t.Context())
	body, write := io.Pipe()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+"/v1/embeddings", body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+g.keys["acme"])
	request.Header.Set("X-Request-Id", "half")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if sent, err := client.Do(request); err == nil {
			sent.Body.Close()
		}
	}()
	if _, err := io.WriteString(write, oneText[:5]); err != nil {
		t.Fatal(err)
	}
	g.eventually("its body being on its way", func() bool { return g.bodies.Used() > 0 })
	cancel()
	g.await("the end of the request", ended)
	if line := g.accessLine("half"); line["reason"] != "CANCELLED" || line["status"] != 499.0 {
		t.Errorf("logged as %v", line)
	}
}

func TestOverHTTP2DrainingEndsTheConnection(t *testing.T) {
	g := startGateway(t)
	client := g.http2Client()
	sent, _ := g.sendHTTP2(client, "/v1/embeddings", strings.NewReader(oneText))
	g.read(sent)
	g.Drain()
	sent, _ = g.sendHTTP2(client, "/v1/embeddings", strings.NewReader(oneText)) // which says so
	g.read(sent)
	g.eventually("another connection", func() bool {
		sent, reused := g.sendHTTP2(client, "/v1/embeddings", strings.NewReader(oneText))
		return g.read(sent).status == http.StatusOK && !reused
	})
}
