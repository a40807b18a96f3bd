package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"triptych.dev/gateway/internal/testkit"
)

// frames is a connection of HTTP/2 whose client does what none should.
type frames struct {
	*testing.T
	*http2.Framer
	connection *tls.Conn
	address    string
	next       uint32        // stream
	buffered   *bufio.Writer // nil: each frame is sent at once
	block      []byte        // of the headers of a request
}

// frames connects, and lets the gateway send as much as it likes.
func (c *certified) frames(address string) *frames {
	c.Helper()
	config := testkit.Client(c.pair)
	config.NextProtos = []string{http2.NextProtoTLS}
	connection, err := tls.Dial("tcp", address, config)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { connection.Close() })
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		c.Fatal(err)
	}
	f := &frames{c.T, http2.NewFramer(connection, connection), connection, address, 1, nil, nil}
	const much = 1 << 30
	_, err = io.WriteString(connection, http2.ClientPreface)
	f.must(err)
	f.must(f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: much}))
	f.must(f.WriteWindowUpdate(0, much))
	return f
}

// buffer has frames sent many at a time, until flush.
func (f *frames) buffer() {
	f.buffered = bufio.NewWriterSize(f.connection, 1<<16)
	f.Framer = http2.NewFramer(f.buffered, f.connection)
}

func (f *frames) flush() error { return f.buffered.Flush() }

func (f *frames) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// head begins a request for embeddings, and returns its stream. The error is the connection's.
func (f *frames) head(key string) (stream uint32, err error) {
	if f.block == nil { // it is good again: what it names is in the static table
		var block bytes.Buffer
		encoder := hpack.NewEncoder(&block)
		for _, field := range [][2]string{
			{":method", "POST"}, {":scheme", "https"}, {":authority", f.address}, {":path", "/v1/embeddings"},
			{"authorization", "Bearer " + key},
		} {
			f.must(encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}))
		}
		f.block = block.Bytes()
	}
	stream = f.next
	f.next += 2
	return stream, f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.block, EndHeaders: true})
}

// inflight returns the gauge of requests that are being served.
func inflight(operations string) string {
	found := regexp.MustCompile(`(?m)^gateway_inflight_requests (\S+)$`).FindStringSubmatch(getText(operations, "/metrics"))
	if found == nil {
		return ""
	}
	return found[1]
}

func TestAConnectionThatNobodyReadsIsEnded(t *testing.T) {
	site := newCertified(t)
	g := site.serve("--write-timeout", "200ms")
	f := site.frames(address(t, g.log, "http"))
	// 9 MB of numbers: more than the sockets' buffers hold.
	body := `{"model":"` + testkit.ModelName + `","input":["a"` + strings.Repeat(`,"a"`, testkit.MaxInputs-1) + `]}`
	stream, err := f.head(site.key)
	f.must(err)
	f.must(f.WriteData(stream, true, []byte(body)))
	eventually(t, "the request, as one that was served", func() bool { return strings.Contains(g.log.String(), `"route":"/v1/embeddings"`) })
	if !strings.Contains(g.log.String(), `"status":499`) {
		t.Errorf("logged as\n%s", g.log)
	}
	if got := inflight(address(t, g.log, "metrics")); got != "0" {
		t.Errorf("%s requests are in flight", got)
	}
	if _, err := io.Copy(io.Discard, f.connection); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("the connection stays: %v", err)
	}
}

func TestRequestsThatAreTakenBackAtOnceLeaveNothing(t *testing.T) {
	const most = 50
	site := newCertified(t)
	g := site.serve("--max-connection-requests", "50")
	api, operations := address(t, g.log, "http"), address(t, g.log, "metrics")
	other := client(t, 2, site.pair)
	eventually(t, "ready", func() bool { _, err := embedBy(other, api, site.key); return err == nil })
	f := site.frames(api)
	first, err := f.ReadFrame()
	f.must(err)
	if allowed, ok := first.(*http2.SettingsFrame).Value(http2.SettingMaxConcurrentStreams); !ok || allowed != most {
		t.Errorf("a connection may have %d requests at once", allowed)
	}
	for range 100 * most {
		stream, err := f.head(site.key)
		if err == nil {
			err = f.WriteRSTStream(stream, http2.ErrCodeCancel)
		}
		if err != nil {
			break // the gateway has ended the connection
		}
	}
	if _, err := embedBy(other, api, site.key); err != nil {
		t.Errorf("beside it: %v", err)
	}
	f.connection.Close()
	eventually(t, "no request in flight", func() bool { return inflight(operations) == "0" })
}

// TestStoppingLosesNoRequestOfConnectionsThatAreKept has clients that leave when the gateway says that it is not ready; in
// HTTP/2 all of them share one connection.
func TestStoppingLosesNoRequestOfConnectionsThatAreKept(t *testing.T) {
	for protocol := 1; protocol <= 2; protocol++ {
		site := newCertified(t)
		g := site.serve("--drain-delay", "3s")
		api, operations := address(t, g.log, "http"), address(t, g.log, "metrics")
		kept := client(t, protocol, site.pair)
		eventually(t, "ready", func() bool { return get(operations, "/readyz") == http.StatusOK })
		var clients sync.WaitGroup
		var answered atomic.Int64
		var leave atomic.Bool
		for range 8 {
			clients.Go(func() {
				for !leave.Load() {
					if _, err := embedBy(kept, api, site.key); err != nil {
						t.Errorf("HTTP/%d: %v", protocol, err)
					}
					answered.Add(1)
				}
			})
		}
		eventually(t, "load", func() bool { return answered.Load() > 100 })
		g.stop()
		eventually(t, "not ready", func() bool { return get(operations, "/readyz") != http.StatusOK })
		told := answered.Load()
		eventually(t, "replies while it drains", func() bool { return answered.Load() > told+20 })
		leave.Store(true)
		clients.Wait()
		kept.CloseIdleConnections()
		if status := g.exit(); status != exitOK {
			t.Errorf("HTTP/%d: exit status %d", protocol, status)
		}
	}
}
