package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"triptych.dev/gateway/internal/blob"
	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/testkit"
)

// errorCase is one entry of the files in tests/cases; the README there says what its fields mean.
type errorCase struct {
	Name, Reason, Needs string
	Fake                struct{ Field, Message string }
	HTTP                *struct {
		Method, Path, Key string
		Headers           map[string]string
		JSON              json.RawMessage
		Body              json.RawMessage
		BodyBase64        []byte `json:"body_base64"`
	}
	Expect struct {
		Param   *string
		Message string
		Headers map[string]string
	}
}

// conditions bring about what a case needs.
var conditions = map[string]func(t *testing.T, c errorCase) *gateway{
	"":               func(t *testing.T, _ errorCase) *gateway { return startGateway(t) },
	"restricted_key": func(t *testing.T, _ errorCase) *gateway { return startGateway(t) },
	"tiny_exhausted": func(t *testing.T, _ errorCase) *gateway {
		g := startGateway(t)
		for range 20 {
			g.do(http.MethodPost, "/v1/embeddings", oneText, "Authorization", "Bearer "+g.keys["tiny"])
		}
		return g
	},
	"small_requests": func(t *testing.T, _ errorCase) *gateway {
		g := startGateway(t, limited(quota.Limits{TokensPerRequest: 5}))
		g.costing(8)
		return g
	},
	"one_at_once": func(t *testing.T, _ errorCase) *gateway {
		g := startGateway(t, limited(quota.Limits{ConcurrentRequests: 1}))
		began, release := g.hotpath.Block()
		done := make(chan struct{})
		go func() {
			defer close(done)
			// Not of the test's context, which ends before the cleanup.
			if reply, err := http.Post(g.url+"/v1/embeddings", "application/json", strings.NewReader(oneText)); err == nil {
				reply.Body.Close()
			}
		}()
		g.await("a request that runs", began)
		t.Cleanup(func() {
			close(release)
			<-done
		})
		return g
	},
	"stalled_body": func(t *testing.T, _ errorCase) *gateway {
		return startGateway(t, func(_ *engine.Options, o *Options) { o.BodyTimeout = 50 * time.Millisecond })
	},
	"full_queue": func(t *testing.T, _ errorCase) *gateway {
		g := startGateway(t)
		g.hotpath.SetEmbed(answer(testkit.RefusalWith(codes.Unavailable, "QUEUE_FULL", "", "the queue holds 1000 tokens, as many as it may", 3*time.Second)))
		return g
	},
	"full_share": func(t *testing.T, _ errorCase) *gateway {
		return startGateway(t, func(_ *engine.Options, o *Options) {
			o.Authenticator = someone{Tenant: "acme", Plan: identity.Plan{StoredBytes: 4, Tenant: identity.ClassLimits{{RequestsPerMinute: 100}}}}
		})
	},
	"full_disk": func(t *testing.T, _ errorCase) *gateway {
		return startGateway(t, func(_ *engine.Options, o *Options) { o.Files.MinFree = math.MaxInt64 })
	},
	"read_only_contents": func(t *testing.T, _ errorCase) *gateway {
		return startGateway(t, func(_ *engine.Options, o *Options) {
			folder := t.TempDir()
			blobs, err := blob.OpenFolder(folder)
			if err != nil {
				t.Fatal(err)
			}
			o.Files.Blobs = blobs
			testkit.MountReadOnly(t, folder, folder)
		})
	},
	"no_files": func(t *testing.T, _ errorCase) *gateway {
		return startGateway(t, func(_ *engine.Options, o *Options) { o.Files = nil })
	},
	"a_file": func(t *testing.T, c errorCase) *gateway {
		g := startGateway(t)
		c.HTTP.Path = strings.Replace(c.HTTP.Path, "FILE", g.uploaded("acme", field{"purpose", "", "user_data"}, field{"file", "a", "12345"}).ID, 1)
		return g
	},
	"few_enqueued_tokens": func(t *testing.T, c errorCase) *gateway {
		g := startGateway(t, func(_ *engine.Options, o *Options) {
			o.Authenticator = someone{Tenant: "acme", Plan: identity.Plan{Name: "few", EnqueuedTokens: 4, Tenant: identity.ClassLimits{{RequestsPerMinute: 100}}}}
		})
		c.HTTP.JSON = bytes.Replace(c.HTTP.JSON, []byte("FILE"), []byte(g.requests("acme", 1)), 1)
		return g
	},
	"an_ended_batch": func(t *testing.T, c errorCase) *gateway {
		g := startGateway(t)
		c.HTTP.Path = strings.Replace(c.HTTP.Path, "BATCH", g.batch("acme").ID, 1)
		if _, err := g.records.ExpireBatches(t.Context(), time.Now().AddDate(1, 0, 0), 10); err != nil {
			t.Fatal(err)
		}
		return g
	},
	"an_ended_job": func(t *testing.T, c errorCase) *gateway {
		g := startGateway(t)
		id := g.job("acme").ID
		later := time.Now().AddDate(1, 0, 0)
		if _, err := g.records.ExpireAsyncJobs(t.Context(), later, func(*store.AsyncJob) time.Time { return later }, 10); err != nil {
			t.Fatal(err)
		}
		c.HTTP.Path = strings.Replace(c.HTTP.Path, "JOB", id, 1)
		return g
	},
	"a_decided_review": func(t *testing.T, c errorCase) *gateway {
		g := startGateway(t)
		id := g.reviewed("acme").Verdicts[0].ReviewID
		g.review(g.post(reviewsRoute+"/"+id, `{"decision":"passed"}`))
		c.HTTP.Path = strings.Replace(c.HTTP.Path, "REVIEW", id, 1)
		return g
	},
	"a_used_key": func(t *testing.T, c errorCase) *gateway {
		g := startGateway(t)
		body := fmt.Sprintf(`{"input_file_id":%q,"endpoint":"/v1/embeddings","completion_window":"24h"}`, g.requests("acme", 1))
		if got := g.post(batchesRoute, body, "Idempotency-Key", "a key"); got.status != http.StatusOK {
			t.Fatalf("%d %s", got.status, got.body)
		}
		c.HTTP.JSON = bytes.Replace(c.HTTP.JSON, []byte("FILE"), []byte(g.requests("acme", 1)), 1)
		return g
	},
	"a_key_in_flight": func(t *testing.T, _ errorCase) *gateway {
		g := startGateway(t)
		reader, writer := io.Pipe()
		request, err := http.NewRequest(http.MethodPost, g.url+filesRoute, reader)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{"Authorization": "Bearer " + g.keys["acme"], "Idempotency-Key": "a key", "Content-Type": "multipart/form-data; boundary=x"} {
			request.Header.Set(name, value)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if reply, err := http.DefaultClient.Do(request); err == nil {
				reply.Body.Close()
			}
		}()
		t.Cleanup(func() {
			writer.Close()
			<-done
		})
		g.eventually("the key is in flight", func() bool {
			g.creating.mu.Lock()
			defer g.creating.mu.Unlock()
			return len(g.creating.keys) == 1
		})
		return g
	},
	"short_deadline": func(t *testing.T, _ errorCase) *gateway {
		g := startGateway(t, func(e *engine.Options, _ *Options) { e.Timeout = 50 * time.Millisecond })
		g.hotpath.SetEmbed(hang)
		return g
	},
	"hotpath_down": func(t *testing.T, _ errorCase) *gateway {
		g := startGateway(t)
		g.hotpath.Stop()
		return g
	},
	"model_not_ready": func(t *testing.T, _ errorCase) *gateway {
		g := startGateway(t)
		g.hotpath.SetEmbed(answer(testkit.Refusal(fault.ModelNotReady, "model", "open /secret/path: no such file")))
		return g
	},
	"fake_hotpath": func(t *testing.T, c errorCase) *gateway {
		g := startGateway(t)
		refusal := testkit.Refusal(fault.Reason(c.Reason), c.Fake.Field, c.Fake.Message)
		g.hotpath.SetEmbed(answer(refusal))
		g.hotpath.SetGenerate(func(*inferencev1.GenerateRequest, testkit.GenerateStream) error { return refusal })
		g.hotpath.SetClassify(func(context.Context, *inferencev1.ClassifyRequest) (*inferencev1.ClassifyResponse, error) {
			return nil, refusal
		})
		return g
	},
}

func answer(err error) testkit.EmbedFunc {
	return func(context.Context, *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) { return nil, err }
}

// hang answers when the caller is gone.
func hang(ctx context.Context, _ *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func errorCases(t *testing.T) (cases []errorCase) {
	t.Helper()
	for _, data := range testkit.RepoFiles(t, "tests/cases/*.json") {
		var file struct{ Cases []errorCase }
		if err := json.Unmarshal(data, &file); err != nil {
			t.Fatal(err)
		}
		cases = append(cases, file.Cases...)
	}
	return cases
}

func TestErrorCases(t *testing.T) {
	table := testkit.ErrorTable(t)
	shared := startGateway(t)
	for _, c := range errorCases(t) {
		if c.HTTP == nil {
			continue // cannot be caused over HTTP; the hot path's tests run it
		}
		t.Run(c.Name, func(t *testing.T) {
			condition, known := conditions[c.Needs]
			if !known {
				t.Fatalf("these tests cannot bring about %q", c.Needs)
			}
			g := shared
			if c.Needs != "" {
				g = condition(t, c)
			}
			var got reply
			if c.Needs == "stalled_body" {
				got = g.sendHalf(t, c)
			} else {
				got = g.send(t, c)
			}
			checkShape(t, c, table[c.Reason], got)
			checkExpectations(t, c, got)
			if c.Needs != "hotpath_down" && c.Needs != "short_deadline" && c.Needs != "one_at_once" {
				g.stillServes()
			}
		})
	}
}

func (g *gateway) caseHeaders(c errorCase) []string {
	headers := []string{}
	switch c.HTTP.Key {
	case "none":
	case "wrong":
		headers = append(headers, "Authorization", "Bearer trip_00000000_"+strings.Repeat("0", 43))
	default:
		headers = append(headers, "Authorization", "Bearer "+g.keys[c.HTTP.Key])
	}
	if c.HTTP.JSON != nil {
		headers = append(headers, "Content-Type", "application/json")
	}
	for name, value := range c.HTTP.Headers {
		headers = append(headers, name, value)
	}
	return headers
}

func (c errorCase) body(t *testing.T) string {
	t.Helper()
	switch {
	case c.HTTP.JSON != nil:
		encoded, err := json.Marshal(expand(t, c.HTTP.JSON))
		if err != nil {
			t.Fatal(err)
		}
		return string(encoded)
	case c.HTTP.Body != nil:
		text, ok := expand(t, c.HTTP.Body).(string)
		if !ok {
			t.Fatalf("body is no text: %s", c.HTTP.Body)
		}
		return text
	default:
		return string(c.HTTP.BodyBase64)
	}
}

func (g *gateway) send(t *testing.T, c errorCase) reply {
	t.Helper()
	return g.do(c.HTTP.Method, c.HTTP.Path, c.body(t), g.caseHeaders(c)...)
}

// sendHalf sends the headers and half of the body, and then nothing.
func (g *gateway) sendHalf(t *testing.T, c errorCase) reply {
	t.Helper()
	connection, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	body := c.body(t)
	fmt.Fprintf(connection, "%s %s HTTP/1.1\r\nHost: gateway\r\nContent-Length: %d\r\n", c.HTTP.Method, c.HTTP.Path, len(body))
	headers := g.caseHeaders(c)
	for i := 0; i < len(headers); i += 2 {
		fmt.Fprintf(connection, "%s: %s\r\n", headers[i], headers[i+1])
	}
	fmt.Fprintf(connection, "\r\n%s", body[:len(body)/2])
	if err := connection.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	sent, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := g.read(sent)
	if rest, err := io.ReadAll(connection); err != nil || len(rest) > 0 {
		t.Errorf("the connection stays open after the reply: %q, %v", rest, err)
	}
	return got
}

// checkShape compares the reply with docs/errors.md.
func checkShape(t *testing.T, c errorCase, row testkit.ErrorRow, got reply) {
	t.Helper()
	if strconv.Itoa(got.status) != row.Status || got.err.Type != row.Type || got.err.Code != row.Code || got.err.Message == "" {
		t.Errorf("got %d %.300s, want %+v", got.status, got.body, row)
	}
	if got.header.Get("x-request-id") == "" || !strings.Contains(got.header.Get("server-timing"), "total;dur=") {
		t.Errorf("headers %v", got.header)
	}
	wait, waitMillis := got.header.Get("retry-after"), got.header.Get("retry-after-ms")
	seconds, _ := strconv.Atoi(wait)
	millis, _ := strconv.Atoi(waitMillis)
	if limited := (got.status == 409 || got.status == 429 || got.status == 503) && row.Retry == "yes"; limited != (seconds >= 1 && seconds <= 60 && millis > 0) || (!limited && wait+waitMillis != "") {
		t.Errorf("retry-after %q, retry-after-ms %q", wait, waitMillis)
	}
	repeats := got.status == 408 || got.status == 409 || got.status == 429 || got.status >= 500
	if stop := got.header.Get("x-should-retry") == "false"; stop != (repeats && row.Retry == "no") {
		t.Errorf("x-should-retry %q", got.header.Get("x-should-retry"))
	}
	if c.Reason == "INTERNAL" && (strings.Contains(string(got.body), c.Fake.Message) || !strings.Contains(got.err.Message, got.header.Get("x-request-id"))) {
		t.Errorf("a fault of ours says %s", got.body)
	}
}

func checkExpectations(t *testing.T, c errorCase, got reply) {
	t.Helper()
	if c.Expect.Param != nil && (got.err.Param == nil || *got.err.Param != *c.Expect.Param) {
		t.Errorf("param is not %q: %.300s", *c.Expect.Param, got.body)
	}
	if !regexp.MustCompile(c.Expect.Message).MatchString(got.err.Message) {
		t.Errorf("%q does not match %q", got.err.Message, c.Expect.Message)
	}
	for name, pattern := range c.Expect.Headers {
		if !regexp.MustCompile(pattern).MatchString(got.header.Get(name)) {
			t.Errorf("%s: %q does not match %q", name, got.header.Get(name), pattern)
		}
	}
}

// expand replaces {"$repeat": X, "times": N} by X repeated N times.
func expand(t *testing.T, raw json.RawMessage) any {
	t.Helper()
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		t.Fatal(err)
	}
	return expandValue(value)
}

func expandValue(value any) any {
	switch value := value.(type) {
	case map[string]any:
		if repeated, ok := value["$repeat"]; ok {
			return repeat(expandValue(repeated), int(value["times"].(float64)))
		}
		for name := range value {
			value[name] = expandValue(value[name])
		}
	case []any:
		for i := range value {
			value[i] = expandValue(value[i])
		}
	}
	return value
}

func repeat(value any, times int) any {
	if text, ok := value.(string); ok {
		return strings.Repeat(text, times)
	}
	var list []any
	for range times {
		list = append(list, value.([]any)...)
	}
	return list
}

func TestTheCasesFileIsUnderstood(t *testing.T) {
	got := expand(t, json.RawMessage(`{"a":[{"$repeat":"xy","times":2},{"$repeat":[1],"times":3}]}`))
	if encoded, err := json.Marshal(got); err != nil || string(encoded) != `{"a":["xyxy",[1,1,1]]}` {
		t.Errorf("got %s, %v", encoded, err)
	}
}
