package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

// streamed is a request's body with "stream" set.
func streamed(body string) string { return strings.Replace(body, "{", `{"stream":true,`, 1) }

// open sends a request with acme's key and returns its reply without reading it; nil if there was none.
func (g *gateway) open(ctx context.Context, path, body, requestID string) *http.Response {
	g.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+path, strings.NewReader(body))
	if err != nil {
		g.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+g.keys["acme"])
	request.Header.Set("X-Request-Id", requestID)
	sent, err := http.DefaultClient.Do(request)
	if err != nil && ctx.Err() == nil {
		g.Fatal(err)
	}
	if err != nil {
		return nil
	}
	g.Cleanup(func() { sent.Body.Close() })
	return sent
}

// events reads a stream event by event.
type events struct {
	*gateway
	reader *bufio.Reader
}

func (g *gateway) stream(path, body string) (*http.Response, *events) {
	g.Helper()
	ctx, cancel := context.WithTimeout(g.Context(), patience)
	g.Cleanup(cancel)
	sent := g.open(ctx, path, body, "streamed")
	if sent == nil {
		g.Fatalf("no reply in %v", patience)
	}
	if sent.StatusCode != http.StatusOK || sent.Header.Get("Content-Type") != "text/event-stream; charset=utf-8" {
		g.Fatalf("got %d %v %s", sent.StatusCode, sent.Header, g.read(sent).body)
	}
	return sent, &events{g, bufio.NewReader(sent.Body)}
}

// next returns the next event's lines; empty at the stream's end.
func (e *events) next() string {
	e.Helper()
	event := ""
	for {
		line, err := e.reader.ReadString('\n')
		if errors.Is(err, io.EOF) && event+line == "" {
			return ""
		}
		if err != nil {
			e.Fatalf("the stream broke off in %q: %v", event+line, err)
		}
		if line == "\n" {
			return event
		}
		event += strings.TrimSuffix(line, "\n")
	}
}

// rest returns all further events.
func (e *events) rest() (list []string) {
	e.Helper()
	for event := e.next(); event != ""; event = e.next() {
		list = append(list, event)
	}
	return list
}

func TestAChatIsStreamed(t *testing.T) {
	g := startGateway(t)
	sent, events := g.stream("/v1/chat/completions", streamed(strings.Replace(oneChat, "{", `{"stream_options":{"include_usage":true},`, 1)))
	for name, want := range map[string]string{"Cache-Control": "no-cache", "X-Request-Id": "streamed", "X-Accel-Buffering": "no", "Content-Length": ""} {
		if got := sent.Header.Get(name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	head := `^data: \{"id":"chatcmpl-[A-Z2-7]{26}","object":"chat\.completion\.chunk","created":\d{10},"model":"smollm2-135m-instruct","choices":\[`
	choice := func(delta, finish string) string {
		return head + `\{"index":0,"delta":` + delta + `,"logprobs":null,"finish_reason":` + finish + `\}\],"usage":null\}$`
	}
	wanted := []string{choice(`\{"role":"assistant","content":""\}`, "null")}
	for _, word := range testkit.Words {
		wanted = append(wanted, choice(`\{"content":"`+regexp.QuoteMeta(word)+`"\}`, "null"))
	}
	wanted = append(wanted, choice(`\{\}`, `"stop","stop_reason":2`),
		head+`\],"usage":\{"prompt_tokens":4,"completion_tokens":6,"total_tokens":10,"prompt_tokens_details":\{"cached_tokens":2\}\},"system_fingerprint":"0123456789abcdef",`+
			`"timings":\{"tokenize_ms":0\.100,"queue_ms":0\.200,"prefill_ms":3\.000,"decode_ms":40\.000,"first_token_ms":[\d.]+\}\}$`,
		`^data: \[DONE\]$`)
	got := events.rest()
	if len(got) != len(wanted) {
		t.Fatalf("got %d events:\n%s", len(got), strings.Join(got, "\n"))
	}
	for i, want := range wanted {
		if !regexp.MustCompile(want).MatchString(got[i]) {
			t.Errorf("event %d is\n%s\nnot\n%s", i, got[i], want)
		}
	}
}

func TestEveryEventIsSentAtOnce(t *testing.T) {
	g := startGateway(t)
	read := make(chan struct{})
	g.hotpath.SetGenerate(func(_ *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
		for i := range 5 {
			if err := testkit.SendDelta(stream, &inferencev1.GenerateDelta{Text: fmt.Sprint(i)}); err != nil {
				return err
			}
			select {
			case <-read: // not before the client has it
			case <-stream.Context().Done():
				return stream.Context().Err()
			}
		}
		return sendEnd(stream)
	})
	_, events := g.stream("/v1/completions", streamed(oneCompletion))
	for i := range 5 {
		if got := events.next(); !strings.Contains(got, fmt.Sprintf(`"text":"%d"`, i)) {
			t.Fatalf("got %s", got)
		}
		read <- struct{}{}
	}
	if rest := events.rest(); len(rest) != 2 || rest[1] != "data: [DONE]" {
		t.Errorf("got %q", rest)
	}
}

// sendEnd ends choice 0 and the stream.
func sendEnd(stream testkit.GenerateStream) error {
	end := &inferencev1.Finish{Reason: &inferencev1.Finish_Length{Length: &inferencev1.LengthReached{}}}
	if err := testkit.SendDelta(stream, &inferencev1.GenerateDelta{Finish: end}); err != nil {
		return err
	}
	return testkit.SendDone(stream, 1, 1)
}

func TestHeartbeatsKeepAWaitingStreamOpen(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.StreamHeartbeat = 5 * time.Millisecond })
	turn := make(chan error)
	g.hotpath.SetGenerate(func(request *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
		if err := <-turn; err != nil {
			return err
		}
		return testkit.Generate(request, stream)
	})
	_, events := g.stream("/v1/chat/completions", streamed(oneChat)) // its headers come with the first heartbeat
	for range 3 {
		if got := events.next(); !strings.HasPrefix(got, ":") {
			t.Fatalf("got %q", got)
		}
	}
	turn <- nil
	if rest := events.rest(); rest[len(rest)-1] != "data: [DONE]" {
		t.Errorf("got %q", rest)
	}
	_, events = g.stream("/v1/chat/completions", streamed(oneChat))
	turn <- testkit.Refusal(fault.QueueFull, "", "it waited too long")
	checkBroken(t, events.rest(), "queue_full", "it waited too long")
}

// checkBroken holds that a stream ends with an error and nothing that looks like a good end.
func checkBroken(t *testing.T, events []string, code, says string) {
	t.Helper()
	last := events[len(events)-1]
	if !strings.HasPrefix(last, `data: {"error":{"message":"`) || !strings.Contains(last, `"code":"`+code+`"`) || !strings.Contains(last, says) {
		t.Errorf("the last event is %s", last)
	}
	for _, event := range events {
		if strings.Contains(event, "[DONE]") || strings.Contains(event, `"finish_reason":"`) {
			t.Errorf("a broken stream has %s", event)
		}
	}
}

func TestABrokenStreamSaysSo(t *testing.T) {
	g := startGateway(t)
	for _, c := range []struct {
		name      string
		breakOff  func(stream testkit.GenerateStream) error
		code      string
		says      string
		logged    float64
		logReason string
	}{
		{"slow reader", func(testkit.GenerateStream) error { return testkit.Refusal(fault.SlowReader, "", "the client is slow") },
			"slow_reader", "the client is slow", 408, "SLOW_READER"},
		{"a fault of ours", func(testkit.GenerateStream) error { return testkit.Refusal(fault.Internal, "", "open /secret/path") },
			"internal_error", "streamed", 500, "INTERNAL"},
		{"no end", func(testkit.GenerateStream) error { return nil }, "internal_error", "streamed", 500, "INTERNAL"},
		{"no end of a choice", func(stream testkit.GenerateStream) error { return testkit.SendDone(stream, 1, 1) }, "internal_error", "streamed", 500, "INTERNAL"},
		{"crash", func(stream testkit.GenerateStream) error {
			go g.hotpath.Stop()
			<-stream.Context().Done()
			return stream.Context().Err()
		}, "hotpath_unavailable", "cannot be reached", 503, "HOTPATH_UNAVAILABLE"},
	} {
		g.log.Reset()
		read := make(chan struct{})
		g.hotpath.SetGenerate(func(_ *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
			if err := sendOne(stream); err != nil {
				return err
			}
			<-read // a crash could overtake what was sent
			return c.breakOff(stream)
		})
		_, events := g.stream("/v1/chat/completions", streamed(oneChat))
		got := []string{events.next(), events.next()}
		close(read)
		got = append(got, events.rest()...)
		checkBroken(t, got, c.code, c.says)
		if len(got) != 3 || strings.Contains(strings.Join(got, ""), "secret") { // role, text, error
			t.Errorf("%s: got %q", c.name, got)
		}
		line := g.accessLine("streamed")
		if line["status"] != c.logged || line["reason"] != c.logReason || line["completion_tokens"] != 1.0 || line["model"] != testkit.ChatModelName {
			t.Errorf("%s: logged as %v", c.name, line)
		}
	}
	// Of the slow reader alone: what failed on our side is free.
	if text := g.scrape(); !strings.Contains(text, `gateway_tokens_total{model="smollm2-135m-instruct",tenant="acme"} 11`+"\n") {
		t.Errorf("charged otherwise:\n%s", text)
	}
}

// sendOne starts a prompt of 10 tokens, of which 5 are reused, and says one.
func sendOne(stream testkit.GenerateStream) error {
	if err := testkit.SendStarted(stream, 10); err != nil {
		return err
	}
	return testkit.SendDelta(stream, &inferencev1.GenerateDelta{Text: "a", Tokens: []*inferencev1.GeneratedToken{{Id: 7}}})
}

// sayOneAndHang does so, and then says nothing until nobody listens.
func sayOneAndHang(_ *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
	if err := sendOne(stream); err != nil {
		return err
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}

func TestWhoLeavesAStreamIsChargedForWhatWasComputed(t *testing.T) {
	g := startGateway(t)
	g.hotpath.SetGenerate(sayOneAndHang)
	sent, events := g.stream("/v1/chat/completions", streamed(oneChat))
	events.next() // role
	events.next() // text
	sent.Body.Close()
	line := g.accessLine("streamed")
	if line["reason"] != "CANCELLED" || line["prompt_tokens"] != 10.0 || line["completion_tokens"] != 1.0 {
		t.Errorf("logged as %v", line)
	}
	const of = `{model="smollm2-135m-instruct",tenant="acme"} `
	text := g.scrape()
	for _, want := range []string{"gateway_tokens_total" + of + "11", "gateway_cached_tokens_total" + of + "5"} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

func TestAStreamThatEndedWithoutSummingUpIsNoReply(t *testing.T) {
	g := startGateway(t)
	g.hotpath.SetGenerate(func(_ *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
		return testkit.SendDelta(stream, &inferencev1.GenerateDelta{Text: "half"})
	})
	if got := g.post("/v1/chat/completions", oneChat); got.status != 500 || strings.Contains(string(got.body), "half") {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestAStreamIsBoundedByItsOwnTimeout(t *testing.T) {
	g := startGateway(t, func(e *engine.Options, _ *Options) { e.GenerationTimeout = 100 * time.Millisecond })
	g.hotpath.SetGenerate(func(_ *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
		if err := testkit.SendDelta(stream, &inferencev1.GenerateDelta{Text: "a"}); err != nil {
			return err
		}
		<-stream.Context().Done()
		return stream.Context().Err()
	})
	_, events := g.stream("/v1/chat/completions", streamed(oneChat))
	checkBroken(t, events.rest(), "deadline_exceeded", "100ms")
}

func TestALongStreamIsNoSlowReader(t *testing.T) {
	const writeTimeout = 50 * time.Millisecond
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.WriteTimeout = writeTimeout })
	g.hotpath.SetGenerate(func(_ *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
		for range 4 {
			if err := testkit.SendDelta(stream, &inferencev1.GenerateDelta{Text: "a"}); err != nil {
				return err
			}
			<-time.After(2 * writeTimeout) // a step takes its time
		}
		return sendEnd(stream)
	})
	_, events := g.stream("/v1/completions", streamed(oneCompletion))
	if rest := events.rest(); len(rest) != 6 || rest[5] != "data: [DONE]" {
		t.Errorf("got %q", rest)
	}
}

func TestAStreamThatNobodyReadsIsDropped(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.WriteTimeout = 100 * time.Millisecond })
	left := make(chan struct{}, 1)
	g.hotpath.SetGenerate(func(_ *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
		defer func() { left <- struct{}{} }()
		for {
			if err := testkit.SendDelta(stream, &inferencev1.GenerateDelta{Text: strings.Repeat("word ", 10_000)}); err != nil {
				return err
			}
		}
	})
	connection := g.dial()
	if err := connection.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	body := streamed(oneCompletion)
	fmt.Fprintf(connection, "POST /v1/completions HTTP/1.1\r\nHost: gateway\r\nX-Request-Id: deaf\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
		g.keys["acme"], len(body), body)
	g.await("the end of the work", left)
	if line := g.accessLine("deaf"); line["reason"] != "SLOW_READER" || line["status"] != 408.0 {
		t.Errorf("logged as %v", line)
	}
	g.eventually("no request in flight", func() bool { return g.slots.Used() == 0 })
}

func TestManyStreamsAtOnceAreEachComplete(t *testing.T) {
	g := startGateway(t)
	const streams = 64
	together := make(chan struct{}, streams)
	release := make(chan struct{})
	g.hotpath.SetGenerate(func(request *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
		together <- struct{}{}
		<-release
		for _, char := range request.GetText() {
			if err := testkit.SendDelta(stream, &inferencev1.GenerateDelta{Text: string(char)}); err != nil {
				return err
			}
		}
		return sendEnd(stream)
	})
	var clients sync.WaitGroup
	for i := range streams {
		clients.Go(func() {
			prompt := fmt.Sprintf("prompt-%d-%s", i, strings.Repeat("é", i))
			got := g.post("/v1/completions", streamed(strings.Replace(oneCompletion, "Once upon a time", prompt, 1)))
			said := ""
			for _, match := range regexp.MustCompile(`"text":"([^"]*)"`).FindAllStringSubmatch(string(got.body), -1) {
				said += match[1]
			}
			if said != prompt || !strings.HasSuffix(string(got.body), "data: [DONE]\n\n") {
				t.Errorf("%q became %q in %d %s", prompt, said, got.status, got.body)
			}
		})
	}
	for range streams {
		g.await("another stream", together)
	}
	close(release)
	clients.Wait()
}

func TestStreamsWhileDraining(t *testing.T) {
	g := startGateway(t)
	g.Drain()
	sent, events := g.stream("/v1/chat/completions", streamed(oneChat))
	if rest := events.rest(); rest[len(rest)-1] != "data: [DONE]" || !sent.Close {
		t.Errorf("closes %v, got %q", sent.Close, rest)
	}
}

func TestReadyzStaysAtFullLoad(t *testing.T) {
	const slots = 2
	hotpath := testkit.StartHotpath(t, "127.0.0.1:0", grpc.MaxConcurrentStreams(slots))
	hotpath.SetModels(testkit.Model(), testkit.ChatModel())
	g := startGateway(t, func(o *engine.Options, _ *Options) {
		o.Addresses, o.CanaryInterval, o.ReadyWindow = []string{hotpath.Address}, 20*time.Millisecond, 500*time.Millisecond
	})
	g.eventually("ready", g.Ready)
	hotpath.SetGenerate(func(request *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
		if testkit.IsCanary(request) {
			return testkit.Generate(request, stream)
		}
		if err := testkit.SendDelta(stream, &inferencev1.GenerateDelta{Text: "a"}); err != nil {
			return err
		}
		<-stream.Context().Done()
		return stream.Context().Err()
	})
	for range slots {
		_, events := g.stream("/v1/chat/completions", streamed(oneChat))
		events.next()
	}
	for until := time.Now().Add(time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) { // two windows
		if got := g.get("/readyz"); got.status != http.StatusOK {
			t.Fatalf("got %d %s\n%s", got.status, got.body, g.log)
		}
	}
	if got := g.get("/v1/models"); got.status != http.StatusOK {
		t.Errorf("models: got %d %s", got.status, got.body)
	}
}
