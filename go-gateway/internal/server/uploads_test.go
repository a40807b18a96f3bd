package server

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/engine"
)

// begin sends the head of an upload, and as much of its body as is given, of an announced length.
func (g *gateway) begin(announced int, sent string, headers ...string) net.Conn {
	g.Helper()
	connection, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		g.Fatal(err)
	}
	g.Cleanup(func() { connection.Close() })
	fmt.Fprintf(connection, "POST %s HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer %s\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n%s\r\n%s",
		filesRoute, g.keys["acme"], announced, strings.Join(headers, ""), sent)
	return connection
}

func (g *gateway) answerOn(connection net.Conn) reply {
	g.Helper()
	if err := connection.SetReadDeadline(time.Now().Add(patience)); err != nil {
		g.Fatal(err)
	}
	sent, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		g.Fatal(err)
	}
	return g.read(sent)
}

const (
	purposePart = "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nuser_data\r\n"
	filePart    = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n"
)

// temporaries waits until there are so many uploads on their way.
func (g *gateway) temporaries(want int64) {
	g.Helper()
	g.eventually(fmt.Sprint(want, " uploads"), func() bool { return g.Files.Uploads() == want })
}

func TestAnUploadThatStandsStillEnds(t *testing.T) {
	for name, pace := range map[string]change{
		"still": func(_ *engine.Options, o *Options) { o.TransferStall = 50 * time.Millisecond },
		"slow": func(_ *engine.Options, o *Options) {
			o.TransferStall, o.MinTransferRate = 300*time.Millisecond, 1<<20
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := startGateway(t, pace)
			connection := g.begin(1<<20, purposePart+filePart+"half")
			if name == "slow" { // never still for long
				done := make(chan struct{})
				defer func() { <-done }()
				go func() {
					defer close(done)
					for err := error(nil); err == nil; time.Sleep(10 * time.Millisecond) {
						_, err = connection.Write([]byte("x"))
					}
				}()
				defer connection.Close()
			}
			if got := g.answerOn(connection); got.status != http.StatusRequestTimeout || got.err.Code != "body_timeout" || !got.closes {
				t.Errorf("got %d %s", got.status, got.body)
			}
			g.checkStored(0)
			g.temporaries(0)
		})
	}
}

func TestAClientThatGoesLeavesNothing(t *testing.T) {
	g := startGateway(t)
	connection := g.begin(1<<20, purposePart+filePart+strings.Repeat("x", 100_000))
	g.temporaries(1)
	connection.Close()
	g.temporaries(0)
	g.checkStored(0)
	g.eventually("a line of it in the log", func() bool { return strings.Contains(g.log.String(), `"reason":"CANCELLED"`) })
}

// TestARefusedUploadIsReadToItsEnd, or its client, which reads its reply afterwards, would see a reset connection.
func TestARefusedUploadIsReadToItsEnd(t *testing.T) {
	g := startGateway(t)
	got := g.upload("acme", field{"purpose", "", "batch"}, field{"file", "a.jsonl", "[]\n" + strings.Repeat("x", 4<<20-10)})
	if got.status != http.StatusBadRequest || !strings.Contains(got.err.Message, "line 1 is not one JSON object") || got.closes {
		t.Errorf("got %d %s, closes: %v", got.status, got.body, got.closes)
	}
	g.checkStored(0)
}

func TestAtMostSoManyUploadsAtOnce(t *testing.T) {
	g := startGateway(t) // 8, of which one tenant may have 4/5 of what is shared
	var running int
	for range 8 {
		g.begin(1000, purposePart+filePart, "Expect: 100-continue\r\n") // so that a refusal does not wait for the body
	}
	g.eventually("a refusal", func() bool {
		running = int(g.Files.Uploads())
		return strings.Contains(g.log.String(), `"reason":"QUEUE_FULL"`)
	})
	if running < 4 || running > 7 {
		t.Errorf("%d run", running)
	}
	if got := g.upload("tiny", field{"purpose", "", "user_data"}, field{"file", "a", "b"}); got.status != http.StatusOK {
		t.Errorf("another tenant gets %d %s", got.status, got.body)
	}
}

func TestAnUploadOverHTTP2(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.TransferStall = 2 * time.Second })
	listener := httptest.NewUnstartedServer(g.API())
	listener.EnableHTTP2 = true
	listener.Config.WriteTimeout = 500 * time.Millisecond // which would end a stream in the middle of an upload
	listener.StartTLS()
	defer listener.Close()
	client := &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	defer client.CloseIdleConnections()
	post := func(body io.Reader) reply {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, listener.URL+filesRoute, body)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+g.keys["acme"])
		request.Header.Set("Content-Type", "multipart/form-data; boundary=b")
		sent, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if sent.ProtoMajor != 2 {
			t.Fatalf("got %s", sent.Proto)
		}
		return g.read(sent)
	}
	reader, writer := io.Pipe()
	go func() {
		fmt.Fprint(writer, purposePart+filePart)
		time.Sleep(600 * time.Millisecond) // longer than the listener's time to write
		fmt.Fprint(writer, strings.Repeat("x", 1<<20), "\r\n--b--\r\n")
		writer.Close()
	}()
	if got := post(reader); got.status != http.StatusOK || !strings.Contains(string(got.body), `"bytes":1048576`) {
		t.Errorf("got %d %s", got.status, got.body)
	}
	still, held := io.Pipe()
	defer held.Close()
	go fmt.Fprint(held, purposePart+filePart)
	if got := post(still); got.status != http.StatusRequestTimeout {
		t.Errorf("one that stands still: %d %s", got.status, got.body)
	}
	g.checkStored(1)
	g.temporaries(0)
}
