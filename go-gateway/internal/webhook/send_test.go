package webhook

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/testkit"
	"triptych.dev/gateway/internal/tracing"
)

const soon = 300 * time.Millisecond

func sample(url string) (store.Webhook, store.Delivery) {
	return store.Webhook{ID: "wh_1", URL: url, Secret: newSecret()},
		store.Delivery{ID: "msg_1", Event: "evt_1", Type: store.EventBatchCompleted, Object: "batch_1", At: time.Unix(1_800_000_000, 5)}
}

func sendOnce(t *testing.T, s *sender, url string) result {
	t.Helper()
	hook, delivery := sample(url)
	got, err := s.send(t.Context(), hook, delivery)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestASpanSaysWhatAReceiverAnswered(t *testing.T) {
	collector := testkit.StartCollector(t)
	tracer, err := tracing.Open(tracing.Options{Endpoint: collector.Endpoint, Ratio: 1, Queue: 100, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	receiver := httptest.NewServer(http.HandlerFunc(func(reply http.ResponseWriter, request *http.Request) {
		status, _ := strconv.Atoi(request.URL.Query().Get("secret"))
		reply.WriteHeader(status)
	}))
	defer receiver.Close()
	s := newSender(loopback, nil, nil, time.Minute, time.Now)
	urls := []string{receiver.URL + "?secret=204", receiver.URL + "?secret=500", "http://127.0.0.1:1/secret"}
	for _, url := range urls {
		hook, delivery := sample(url)
		ctx, job := tracer.Job(t.Context(), tracing.Job{Queue: "webhooks"})
		if _, err := s.send(ctx, hook, delivery); err != nil {
			t.Fatal(err)
		}
		job.EndJob("done", false)
	}
	if err := tracer.Close(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, span := range collector.Spans() {
		if span.GetName() != "deliver" {
			continue
		}
		of := testkit.Attributes(span)
		got = append(got, strings.TrimPrefix(of["http.response.status_code"], "int_value:")+" "+of["error.type"])
		for key, value := range of {
			if strings.Contains(value, "127.0.0.1") || strings.Contains(value, "secret") {
				t.Errorf("%s is %q", key, value)
			}
		}
	}
	if want := []string{"204 ", "500 status", " connection"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// raw is a receiver that says what answer does; the connection is open until the test ends.
func raw(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { connection.Close() })
			go func() {
				_, _ = connection.Read(make([]byte, 4096)) // a reply to no request is none
				answer(connection)
			}()
		}
	}()
	return "http://" + listener.Addr().String() + "/"
}

func TestAReceiverGetsASignedEvent(t *testing.T) {
	got := make(chan *http.Request, 1)
	var body []byte
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ = io.ReadAll(r.Body)
		got <- r
		w.WriteHeader(http.StatusNoContent)
	}))
	defer receiver.Close()
	now := time.Unix(1_800_000_100, 0)
	s := newSender(loopback, nil, nil, time.Minute, func() time.Time { return now })
	hook, delivery := sample(receiver.URL + "/hook?a=b")
	if result, err := s.send(t.Context(), hook, delivery); err != nil || result != (resultOf(KindDelivered, 204)) {
		t.Fatalf("%+v, %v", result, err)
	}
	r := <-got
	if want := `{"id":"evt_1","object":"event","type":"batch.completed","created_at":1800000000,"data":{"id":"batch_1"}}`; string(body) != want {
		t.Errorf("got %s", body)
	}
	want, _ := sign(hook.Secret, "msg_1", "1800000100", body)
	if r.Method != http.MethodPost || r.URL.RequestURI() != "/hook?a=b" || r.Header.Get("webhook-id") != "msg_1" || r.Header.Get("webhook-timestamp") != "1800000100" ||
		r.Header.Get("webhook-signature") != want || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Accept-Encoding") != "" || len(r.Cookies()) != 0 {
		t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
	}
}

func resultOf(kind string, status int) result { return result{kind: kind, status: status} }

// What a receiver can do to an attempt: each ends in time, in words that tell nothing of the inside.
func TestWhatComesOfAnAttempt(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := "http://" + closed.Addr().String()
	closed.Close()
	answering := func(text string) func(net.Conn) {
		return func(c net.Conn) { fmt.Fprint(c, text) }
	}
	var sent atomic.Int64
	for name, test := range map[string]struct {
		url    string
		kind   string
		status int
		says   string
	}{
		"silent":      {raw(t, func(net.Conn) {}), KindTimeout, 0, "within 300ms"},
		"slow header": {raw(t, drip("HTTP/1.1 200 OK\r\nX: ", "a")), KindTimeout, 0, "within 300ms"},
		"slow body":   {raw(t, drip("HTTP/1.1 200 OK\r\n\r\n", "a")), KindDelivered, 200, ""},
		"endless body": {raw(t, func(c net.Conn) {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\n")
			for chunk := bytes.Repeat([]byte("a"), 1<<16); ; {
				n, err := c.Write(chunk)
				sent.Add(int64(n))
				if err != nil {
					return
				}
			}
		}), KindDelivered, 200, ""},
		"endless header": {raw(t, func(c net.Conn) {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\n")
			for i := 0; ; i++ {
				if _, err := fmt.Fprintf(c, "X-%d: %s\r\n", i, strings.Repeat("a", 1000)); err != nil {
					return
				}
			}
		}), KindConnection, 0, "not HTTP"},
		"refusing":          {refusing, KindConnection, 0, "refused"},
		"no HTTP":           {raw(t, answering("SSH-2.0-secret\r\n")), KindConnection, 0, "not HTTP"},
		"closes":            {raw(t, func(c net.Conn) { c.Close() }), KindConnection, 0, "broke"},
		"error":             {raw(t, answering("HTTP/1.1 500 secret\r\nContent-Length: 0\r\n\r\n")), KindStatus, 500, "answered 500"},
		"redirect":          {raw(t, answering("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n")), KindRedirect, 302, "not followed"},
		"no TLS":            {strings.Replace(raw(t, answering("HTTP/1.1 200 OK\r\n\r\n")), "http:", "https:", 1), KindTLS, 0, "TLS"},
		"inward":            {"https://10.0.0.1/", KindRefused, 0, "not public"},
		"outward without s": {"http://203.0.113.9/", KindRefused, 0, "use https"},
		"no name":           {"https://receiver.invalid/", KindName, 0, "could not be resolved"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSender(loopback, nameServer(t, func(string) string { return "" }), nil, soon, time.Now)
			started := time.Now()
			got := sendOnce(t, s, test.url)
			if got.kind != test.kind || got.status != test.status || !strings.Contains(got.message, test.says) || (test.says == "") != (got.message == "") {
				t.Errorf("got %+v", got)
			}
			if strings.Contains(got.message, "secret") || strings.Contains(got.message, "10.0.0.1") || strings.Contains(got.message, "203.0") {
				t.Errorf("it tells %q", got.message)
			}
			if took := time.Since(started); took > 20*soon {
				t.Errorf("it took %v", took)
			}
		})
	}
	t.Cleanup(func() {
		if n := sent.Load(); n > 64<<20 { // what the system's buffers hold is beyond what was read
			t.Errorf("an endless reply was taken: %d bytes", n)
		}
	})
}

// drip says a little every now and then, for ever.
func drip(first, then string) func(net.Conn) {
	return func(c net.Conn) {
		for text := first; ; text = then {
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
			time.Sleep(soon / 20)
		}
	}
}

func TestAReceiverSaysWhenToComeAgain(t *testing.T) {
	for value, want := range map[string]time.Duration{"7": 7 * time.Second, "": 0, "-1": 0, "Wed, 21 Oct 2026 07:28:00 GMT": 0, "99999999999": 0} {
		if got := retryAfter(http.Header{"Retry-After": {value}}); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}

// nameServer is a resolver whose names are those that address says, each time it is asked; empty: there is no such name.
func nameServer(t *testing.T, address func(name string) string) *net.Resolver {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	go func() {
		for buffer := make([]byte, 1500); ; {
			n, from, err := socket.ReadFrom(buffer)
			if err != nil {
				return
			}
			var message dnsmessage.Message
			if message.Unpack(buffer[:n]) != nil || len(message.Questions) != 1 {
				continue
			}
			question := message.Questions[0]
			message.Header.Response = true
			message.Additionals = nil
			if question.Type == dnsmessage.TypeA {
				if ip, err := netip.ParseAddr(address(question.Name.String())); err != nil {
					message.Header.RCode = dnsmessage.RCodeNameError
				} else {
					head := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET}
					message.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AResource{A: ip.As4()}}}
				}
			}
			if packed, err := message.Pack(); err == nil {
				_, _ = socket.WriteTo(packed, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", socket.LocalAddr().String())
	}}
}

// A name that led to a good address and then leads inward is refused the second time, though something listens there and the
// first connection could have been kept.
func TestANameThatTurnsInwardIsRefused(t *testing.T) {
	var asked atomic.Int64
	receiver := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	listener, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	receiver.Listener.Close()
	receiver.Listener = listener
	receiver.StartTLS()
	defer receiver.Close()
	roots := x509.NewCertPool()
	roots.AddCert(receiver.Certificate())
	var inward atomic.Bool
	resolver := nameServer(t, func(string) string {
		if inward.Load() {
			return "127.0.0.2"
		}
		return "127.0.0.1"
	})
	guard := Guard{Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
	s := newSender(guard, resolver, roots, 10*time.Second, time.Now)
	url := fmt.Sprintf("https://example.com:%d/", listener.Addr().(*net.TCPAddr).Port)
	if got := sendOnce(t, s, url); got.kind != KindDelivered {
		t.Fatalf("got %+v", got)
	}
	inward.Store(true)
	if got := sendOnce(t, s, url); got.kind != KindRefused || asked.Load() != 1 {
		t.Errorf("got %+v, and the receiver was asked %d times", got, asked.Load())
	}
}

func TestACertificateOfNobodyIsRefused(t *testing.T) {
	receiver := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer receiver.Close()
	if got := sendOnce(t, newSender(loopback, nil, x509.NewCertPool(), 10*time.Second, time.Now), receiver.URL); got.kind != KindTLS {
		t.Errorf("got %+v", got)
	}
}

// A sample of each type has the fields that an event of it has.
func TestThereIsASampleOfEachEvent(t *testing.T) {
	const none = "00000000000000000000000000000000"
	data := map[string]string{
		store.EventBatchFailed:       `{"id":"batch_` + none + `"}`,
		store.EventJobCompleted:      `{"id":"job_` + none + `"}`,
		store.EventModerationReview:  `{"id":"job_` + none + `","status":"completed","verdict":"review","metadata":null}`,
		store.EventModerationFailed:  `{"id":"job_` + none + `","status":"failed","verdict":null,"metadata":null}`,
		store.EventModerationDecided: `{"id":"modrev_` + none + `_00000","job_id":"job_` + none + `","index":0,"decision":"passed","metadata":null}`,
	}
	for _, kind := range store.EventTypes {
		body, err := bodyOf(sampleOf(kind, time.Unix(1_800_000_000, 0)))
		if want, told := data[kind]; err != nil || (told && !strings.HasSuffix(string(body), `"data":`+want+`}`)) {
			t.Errorf("%s: %s, %v", kind, body, err)
		}
	}
}
