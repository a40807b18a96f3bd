package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"regexp"
	"strings"
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
	next       uint32 // stream
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
	f := &frames{c.T, http2.NewFramer(connection, connection), connection, address, 1}
	const much = 1 << 30
	_, err = io.WriteString(connection, http2.ClientPreface)
	f.must(err)
	f.must(f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: much}))
	f.must(f.WriteWindowUpdate(0, much))
	return f
}

func (f *frames) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// head begins a request for embeddings, and returns its stream. The error is the connection's.
func (f *frames) head(key string) (stream uint32, err error) {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range [][2]string{
		{":method", "POST"}, {":scheme", "https"}, {":authority", f.address}, {":path", "/v1/embeddings"},
		{"authorization", "Bearer " + key},
	} {
		f.must(encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}))
	}
	stream = f.next
	f.next += 2
	return stream, f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true})
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
