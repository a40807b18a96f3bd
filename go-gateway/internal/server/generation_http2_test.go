package server

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/engine"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

func TestOverHTTP2ALongStreamIsNoSlowReader(t *testing.T) {
	const eventTimeout = 50 * time.Millisecond
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.WriteTimeout = eventTimeout })
	g.hotpath.SetGenerate(func(_ *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
		<-time.After(writeTimeout + writeTimeout/2)
		for range 4 {
			if err := testkit.SendDelta(stream, &inferencev1.GenerateDelta{Text: "a"}); err != nil {
				return err
			}
			<-time.After(3 * eventTimeout) // a step takes its time
		}
		return sendEnd(stream)
	})
	sent, _ := g.sendHTTP2(g.http2Client(), "/v1/completions", strings.NewReader(streamed(oneCompletion)))
	events := &events{g, bufio.NewReader(sent.Body)}
	if rest := events.rest(); len(rest) != 6 || rest[5] != "data: [DONE]" {
		t.Errorf("got %q", rest)
	}
}

func TestOverHTTP2AStreamThatNobodyReadsIsDroppedAndHoldsNoOther(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.WriteTimeout = 300 * time.Millisecond })
	release := make(chan struct{})
	g.hotpath.SetGenerate(func(request *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
		text, wait := strings.Repeat("word ", 10_000), time.Duration(0)
		if request.GetText() == "live" {
			text, wait = "word", time.Millisecond
		}
		for {
			if err := testkit.SendDelta(stream, &inferencev1.GenerateDelta{Text: text}); err != nil {
				return err
			}
			select {
			case <-release:
				return sendEnd(stream)
			case <-time.After(wait):
			}
		}
	})
	of := func(prompt string) *strings.Reader {
		return strings.NewReader(streamed(strings.Replace(oneCompletion, "Once upon a time", prompt, 1)))
	}
	client := g.http2Client()
	g.sendHTTP2(client, "/v1/completions", of("deaf"), "X-Request-Id", "deaf")
	sent, reused := g.sendHTTP2(client, "/v1/completions", of("live"), "X-Request-Id", "live")
	if !reused || sent.StatusCode != http.StatusOK {
		t.Fatalf("got %d; the connection is the same: %v", sent.StatusCode, reused)
	}
	ended := make(chan string, 1)
	go func() { ended <- g.accessLine("deaf")["reason"].(string) }()
	live := &events{g, bufio.NewReader(sent.Body)}
	for reason := ""; reason == ""; live.next() { // goes on meanwhile
		select {
		case reason = <-ended:
			if reason != "SLOW_READER" {
				t.Errorf("logged as %s", reason)
			}
		default:
		}
	}
	g.eventually("the slot of the one that was dropped", func() bool { return g.slots.Used() == 1 })
	for range 20 {
		live.next()
	}
	close(release)
	if rest := live.rest(); rest[len(rest)-1] != "data: [DONE]" {
		t.Errorf("ended in %q", rest[len(rest)-1])
	}
}
