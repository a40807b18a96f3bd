package main

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

// openStream asks for a stream and returns it once its first event is there.
func openStream(t *testing.T, client *http.Client, url, key string) *bufio.Reader {
	t.Helper()
	body := strings.NewReader(`{"model":"` + testkit.ChatModelName + `","prompt":"a","stream":true}`)
	request, err := http.NewRequest(http.MethodPost, url+"/v1/completions", body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	reply, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reply.Body.Close() })
	reader := bufio.NewReader(reply.Body)
	if first, err := reader.ReadString('\n'); err != nil || !strings.HasPrefix(first, "data: ") {
		t.Fatalf("got %d %q, %v", reply.StatusCode, first, err)
	}
	return reader
}

// sayUntil makes Generate say a word at each tick until release is closed.
func sayUntil(hotpath *testkit.Hotpath, pause time.Duration, release <-chan struct{}) {
	hotpath.SetGenerate(func(request *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
		ticker := time.NewTicker(pause)
		defer ticker.Stop()
		for {
			if err := testkit.SendDelta(stream, &inferencev1.GenerateDelta{Text: "word "}); err != nil {
				return err
			}
			select {
			case <-ticker.C:
			case <-release:
				return testkit.Generate(request, stream)
			}
		}
	})
}

// TestAStreamOutlivesTheTimeoutsOfOrdinaryReplies has one whose pauses are longer than one event may take, too: in HTTP/2 a
// deadline that passes in between ends the stream.
func TestAStreamOutlivesTheTimeoutsOfOrdinaryReplies(t *testing.T) {
	for protocol := 1; protocol <= 2; protocol++ {
		site := newCertified(t)
		g := site.serve("--header-timeout", "200ms", "--body-timeout", "20ms", "--request-timeout", "20ms", "--write-timeout", "100ms", "--idle-timeout", "20ms")
		release := make(chan struct{})
		sayUntil(site.hotpath, 250*time.Millisecond, release)
		stream := openStream(t, client(t, protocol, site.pair), "https://"+address(t, g.log, "http"), site.key)
		time.AfterFunc(time.Second, func() { close(release) }) // thrice what an ordinary reply may take
		if rest, err := io.ReadAll(stream); err != nil || !strings.HasSuffix(string(rest), "data: [DONE]\n\n") {
			t.Errorf("HTTP/%d: %v after %d bytes", protocol, err, len(rest))
		}
	}
}

func TestDrainWaitsForStreams(t *testing.T) {
	site := newSite(t)
	key := site.createKey()
	g := site.serve()
	release := make(chan struct{})
	sayUntil(site.hotpath, 10*time.Millisecond, release)
	api := address(t, g.log, "http")
	stream := openStream(t, http.DefaultClient, "http://"+api, key)
	g.stop()
	eventually(t, "the end of listening", func() bool { return get(api, "/livez") == 0 })
	close(release)
	if rest, err := io.ReadAll(stream); err != nil || !strings.HasSuffix(string(rest), "data: [DONE]\n\n") {
		t.Errorf("%v after %d bytes", err, len(rest))
	}
	if status := g.exit(); status != exitOK {
		t.Errorf("exit status %d", status)
	}
}
