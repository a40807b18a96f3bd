package server

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/identity"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

type embeddingsReply struct {
	Object string
	Data   []struct {
		Object    string
		Index     int
		Embedding json.RawMessage
	}
	Model string
	Usage struct {
		PromptTokens uint64 `json:"prompt_tokens"`
		TotalTokens  uint64 `json:"total_tokens"`
	}
	TruncatedInputs []int `json:"truncated_inputs"`
}

func (g *gateway) embeddings(body string) embeddingsReply {
	g.Helper()
	got := g.post("/v1/embeddings", body, "Content-Type", "application/json")
	if got.status != http.StatusOK {
		g.Fatalf("got %d %s", got.status, got.body)
	}
	var decoded embeddingsReply
	if err := json.Unmarshal(got.body, &decoded); err != nil {
		g.Fatal(err)
	}
	return decoded
}

func TestEmbeddingsInBothFormats(t *testing.T) {
	g := startGateway(t)
	floats := g.embeddings(`{"model":"all-minilm-l6-v2","input":["one two","three"],"encoding_format":"float","user":"u"}`)
	encoded := g.embeddings(`{"model":"all-minilm-l6-v2","input":["one two","three"],"encoding_format":"base64"}`)
	if floats.Object != "list" || floats.Model != testkit.ModelName || len(floats.Data) != 2 || floats.TruncatedInputs != nil ||
		floats.Usage.PromptTokens != 7 || floats.Usage.TotalTokens != 7 {
		t.Errorf("got %+v", floats)
	}
	for i := range floats.Data {
		var numbers []float32
		var vector []byte
		if err := json.Unmarshal(floats.Data[i].Embedding, &numbers); err != nil || len(numbers) != testkit.Dimensions {
			t.Fatalf("%d numbers, %v", len(numbers), err)
		}
		if err := json.Unmarshal(encoded.Data[i].Embedding, &vector); err != nil {
			t.Fatal(err)
		}
		for j, number := range numbers {
			if bits := binary.LittleEndian.Uint32(vector[4*j:]); bits != math.Float32bits(number) {
				t.Fatalf("input %d, dimension %d: %v in one format, %v in the other", i, j, number, math.Float32frombits(bits))
			}
		}
		if floats.Data[i].Index != i || floats.Data[i].Object != "embedding" {
			t.Errorf("got %+v", floats.Data[i])
		}
	}
	if string(floats.Data[0].Embedding) == string(floats.Data[1].Embedding) {
		t.Error("two texts have one vector")
	}
}

func TestEmbeddingsOfTokenIDs(t *testing.T) {
	g := startGateway(t)
	got := g.embeddings(`{"model":"all-minilm-l6-v2","input":[[101,7592,102],[101,102]],"tokenizer":"all-minilm-l6-v2","encoding_format":null}`)
	if len(got.Data) != 2 || got.Usage.TotalTokens != 5 {
		t.Errorf("got %+v", got)
	}
	ids := g.hotpath.Calls()[0].Embed.GetInputs()[0].GetTokenIds().GetIds()
	if !slices.Equal(ids, []uint32{101, 7592, 102}) {
		t.Errorf("the hot path got %v", ids)
	}
	refused := g.post("/v1/embeddings", `{"model":"all-minilm-l6-v2","input":[101,40000],"tokenizer":"all-minilm-l6-v2"}`)
	if refused.status != 400 || refused.err.Code != "token_id_out_of_range" || *refused.err.Param != "input" || !strings.Contains(refused.err.Message, "40000") {
		t.Errorf("got %d %s", refused.status, refused.body)
	}
}

func TestTruncationIsAskedForAndSaid(t *testing.T) {
	g := startGateway(t)
	long := strings.Repeat("word ", 300)
	got := g.embeddings(fmt.Sprintf(`{"model":"all-minilm-l6-v2","input":["a",%q,"b",%q],"truncate":true}`, long, long))
	if !slices.Equal(got.TruncatedInputs, []int{1, 3}) || got.Usage.TotalTokens != 3+256+3+256 {
		t.Errorf("got %v, %+v", got.TruncatedInputs, got.Usage)
	}
}

func TestWhatTheHotpathIsTold(t *testing.T) {
	g := startGateway(t)
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	g.post("/v1/embeddings", oneText, "X-Request-Id", "my-id.1_2", "Traceparent", trace)
	call := g.hotpath.Calls()[0]
	g.checkTold(call, call.Embed)
	if call.Metadata.Get("x-request-id")[0] != "my-id.1_2" || call.Metadata.Get("traceparent")[0] != trace {
		t.Errorf("metadata %v", call.Metadata)
	}
}

func TestTokenize(t *testing.T) {
	g := startGateway(t)
	got := g.post("/v1/tokenize", `{"model":"all-minilm-l6-v2","input":["hello world"]}`)
	want := `{"object":"list","data":[{"object":"tokenized_text","index":0,"tokens":[101,1005,1005,102],` +
		`"offsets":[[0,0],[0,5],[6,11],[0,0]],"count":4}],"model":"all-minilm-l6-v2","usage":{"prompt_tokens":4,"total_tokens":4}}`
	if got.status != http.StatusOK || string(got.body) != want {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if got := g.post("/v1/tokenize", `{"model":"all-minilm-l6-v2","input":""}`); *got.err.Param != "input" {
		t.Errorf("got %s", got.body)
	}
}

func TestModels(t *testing.T) {
	g := startGateway(t)
	g.eventually("a list of models", func() bool { return g.get("/v1/models").status == http.StatusOK })
	list, one := g.get("/v1/models"), g.get("/v1/models/"+testkit.ModelName)
	want := `{"id":"all-minilm-l6-v2","object":"model","created":1767323045,"owned_by":"sentence-transformers","task":"embedding","state":"ready",` +
		`"revision":"0123456789abcdef","precision":"block_quantized","dimensions":[384],"limits":{"max_tokens":256,"max_inputs":2048,"vocabulary_size":30522}}`
	if string(one.body) != want || string(list.body) != `{"object":"list","data":[`+want+`]}` {
		t.Errorf("got %s and %s", one.body, list.body)
	}
	g.hotpath.Stop()
	g.eventually("the loss of the hot path", func() bool { return g.get("/v1/models").status == http.StatusServiceUnavailable })
	if got := g.get("/v1/models/" + testkit.ModelName); got.err.Code != "hotpath_unavailable" || got.header.Get("retry-after") == "" {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestEveryReplyHasItsHeaders(t *testing.T) {
	g := startGateway(t)
	ok := g.post("/v1/embeddings", oneText)
	timing := regexp.MustCompile(`^tokenize;dur=0\.100, queue;dur=0\.200, inference;dur=3\.000, total;dur=[0-9.]+$`)
	if !timing.MatchString(ok.header.Get("server-timing")) || ok.header.Get("openai-processing-ms") == "" ||
		ok.header.Get("content-type") != "application/json" || ok.header.Get("x-model-revision") != testkit.ModelRevision {
		t.Errorf("got %v", ok.header)
	}
	for _, got := range []reply{
		ok, g.get("/v1/nothing"), g.do("PUT", "/v1/models", ""), g.do("GET", "/livez", ""), g.do("GET", "/readyz", ""),
		g.do("POST", "/v1/embeddings", "{}"), g.post("/v1/embeddings", "{"),
	} {
		if got.header.Get("x-request-id") == "" || !strings.Contains(got.header.Get("server-timing"), "total;dur=") ||
			got.header.Get("openai-processing-ms") == "" {
			t.Errorf("%d %s has the headers %v", got.status, got.body, got.header)
		}
	}
	if got := g.post("/v1/embeddings", oneText, "X-Request-Id", "abc"); got.header.Get("x-request-id") != "abc" {
		t.Errorf("a sane id became %q", got.header.Get("x-request-id"))
	}
	for _, insane := range []string{"a b", "é", strings.Repeat("a", 129), `"`} {
		if got := g.post("/v1/embeddings", oneText, "X-Request-Id", insane).header.Get("x-request-id"); got == insane || got == "" {
			t.Errorf("%q became %q", insane, got)
		}
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	g := startGateway(t)
	for _, path := range []string{"/", "/v1", "/v1/", "/v1/embeddings/", "//v1/embeddings", "/v1/../v1/models", "/v1/models/a/b", "/v1/models/", "/metrics", "/livez/x"} {
		if got := g.get(path); got.status != http.StatusNotFound || got.err.Code != "route_not_found" {
			t.Errorf("%s: got %d %s", path, got.status, got.body)
		}
	}
	for path, allowed := range map[string]string{
		"/v1/embeddings": "POST", "/v1/tokenize": "POST", "/v1/models": "GET, HEAD", "/v1/models/m": "GET, HEAD", "/livez": "GET, HEAD", "/readyz": "GET, HEAD",
	} {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "NONSENSE"} {
			if strings.Contains(allowed, method) {
				continue
			}
			got := g.do(method, path, "")
			if got.status != http.StatusMethodNotAllowed || got.err.Code != "method_not_allowed" || got.header.Get("allow") != allowed {
				t.Errorf("%s %s: got %d %s, allow %q", method, path, got.status, got.body, got.header.Get("allow"))
			}
		}
	}
	if got := g.do("HEAD", "/livez", ""); got.status != http.StatusOK || len(got.body) != 0 {
		t.Errorf("HEAD: got %d %q", got.status, got.body)
	}
}

func TestSeveralMethodsOfOnePath(t *testing.T) {
	g := startGateway(t)
	var routes []route
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		routes = append(routes, route{method: method, pattern: "/several", serve: func(ex *exchange) error {
			ex.reply(http.StatusOK, []byte(`"`+ex.request.Method+`"`))
			return nil
		}})
	}
	url := startHandler(t, g.newRouter(routes))
	for method, status := range map[string]int{"GET": 200, "HEAD": 200, "POST": 200, "DELETE": 200, "PUT": 405} {
		request, err := http.NewRequest(method, url+"/several", nil)
		if err != nil {
			t.Fatal(err)
		}
		sent, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		got := g.read(sent)
		if got.status != status || (status == 405 && got.header.Get("allow") != "GET, HEAD, POST, DELETE") {
			t.Errorf("%s: got %d %v", method, got.status, got.header)
		}
	}
}

// someone authenticates every request.
type someone identity.Principal

func (s someone) Authenticate(string) (identity.Principal, error) { return identity.Principal(s), nil }

func TestOptionsOfNothingIsAnUnknownPath(t *testing.T) {
	g := startGateway(t)
	request := httptest.NewRequest(http.MethodOptions, "*", nil)
	request.Header.Set("X-Request-Id", "star")
	recorder := httptest.NewRecorder()
	g.API().ServeHTTP(recorder, request)
	if got := g.read(recorder.Result()); got.status != 404 || got.err.Code != "route_not_found" || got.header.Get("x-request-id") != "star" {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if line := g.accessLine("star"); line["route"] != "unknown" {
		t.Errorf("logged as %v", line)
	}
}

// The hot path's limit is 16 MiB for a request, and the gateway's 64 MiB for a reply.
func TestWhatIsTooLargeForTheHotpathIsTheClientsToMend(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.MaxBodyBytes = 32 << 20 })
	refused := func(what string, got reply) {
		t.Helper()
		if got.status != 413 || got.err.Code != "body_too_large" || got.header.Get("retry-after") != "" {
			t.Errorf("%s: got %d %s", what, got.status, got.body)
		}
	}
	refused("the request", g.post("/v1/embeddings", `{"model":"all-minilm-l6-v2","input":"`+strings.Repeat("word ", 4<<20)+`"}`))
	g.hotpath.SetEmbed(func(ctx context.Context, request *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		if testkit.IsCanary(request) {
			return testkit.Embed(ctx, request)
		}
		return &inferencev1.EmbedResponse{Embeddings: make([]byte, 65<<20)}, nil
	})
	refused("the reply", g.post("/v1/embeddings", oneText))
	g.hotpath.SetEmbed(func(context.Context, *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		return nil, status.Error(codes.OutOfRange, "Error, decoded message length too large: found 17000000 bytes, the limit is: 16777216 bytes")
	})
	refused("the request, as tonic says it", g.post("/v1/embeddings", oneText))
	g.hotpath.SetEmbed(func(context.Context, *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		return nil, status.Error(codes.ResourceExhausted, "stream terminated by RST_STREAM with error code: ENHANCE_YOUR_CALM")
	})
	if got := g.post("/v1/embeddings", oneText); got.status != 500 {
		t.Errorf("another resource: got %d %s", got.status, got.body)
	}
}

func TestContentTypes(t *testing.T) {
	g := startGateway(t)
	for contentType, status := range map[string]int{
		"": 200, "application/json": 200, "application/json; charset=utf-8": 200, "Application/JSON": 200,
		"text/plain": 400, "application/x-www-form-urlencoded": 400, "multipart/form-data; boundary=x": 400, "nonsense;;": 400,
	} {
		got := g.post("/v1/embeddings", oneText, "Content-Type", contentType)
		if got.status != status || (status == 400 && (got.err.Code != "invalid_value" || !strings.Contains(got.err.Message, "application/json"))) {
			t.Errorf("%q: got %d %s", contentType, got.status, got.body)
		}
	}
	if got := g.post("/v1/embeddings", oneText, "Content-Encoding", "gzip"); got.status != 400 || !strings.Contains(got.err.Message, "Content-Encoding") {
		t.Errorf("gzip: got %d %s", got.status, got.body)
	}
}

func TestRateLimitOnEachSideOfTheBoundary(t *testing.T) {
	g := startGateway(t)
	take := func() reply {
		return g.do("POST", "/v1/embeddings", oneText, "Authorization", "Bearer "+g.keys["tiny"])
	}
	limits := func(got reply) [3]string {
		return [3]string{got.header.Get("x-ratelimit-limit-requests"), got.header.Get("x-ratelimit-remaining-requests"), got.header.Get("x-ratelimit-reset-requests")}
	}
	for i := range 20 {
		want := [3]string{"20", fmt.Sprint(19 - i), (time.Duration(i+1) * 3 * time.Second).String()}
		if got := take(); got.status != http.StatusOK || limits(got) != want {
			t.Fatalf("request %d: got %d %v, want %v", i+1, got.status, limits(got), want)
		}
	}
	over := take()
	if over.status != http.StatusTooManyRequests || limits(over) != [3]string{"20", "0", "1m0s"} ||
		over.header.Get("retry-after") != "3" || over.header.Get("retry-after-ms") != "3000" {
		t.Errorf("over: got %d %v", over.status, over.header)
	}
	g.clock = g.clock.Add(3*time.Second - 1)
	if got := take(); got.status != http.StatusTooManyRequests || got.header.Get("retry-after-ms") != "1" {
		t.Errorf("1 ns early: got %d %v", got.status, got.header)
	}
	g.clock = g.clock.Add(1)
	if got := take(); got.status != http.StatusOK {
		t.Errorf("in time: got %d %s", got.status, got.body)
	}
	if got := g.post("/v1/embeddings", oneText); got.status != http.StatusOK {
		t.Errorf("another tenant: got %d", got.status)
	}
	if !strings.Contains(g.scrape(), `gateway_rate_limited_total{limit="requests_per_minute",tenant="tiny"} 2`) {
		t.Error("the refusals are not counted")
	}
}

func TestAPanicIsOneRequestsError(t *testing.T) {
	g := startGateway(t)
	panicky := startHandler(t, g.newRouter([]route{
		{method: http.MethodGet, pattern: "/panic", serve: func(*exchange) error { panic("secret words") }},
		{method: http.MethodPost, pattern: "/late", serve: func(ex *exchange) error {
			ex.reply(http.StatusOK, []byte("{}"))
			panic("too late")
		}},
		{method: http.MethodGet, pattern: "/silent", serve: func(*exchange) error { return nil }},
	}))
	got, err := http.Get(panicky + "/panic")
	if err != nil {
		t.Fatal(err)
	}
	if read := g.read(got); read.status != 500 || read.err.Code != "internal_error" || strings.Contains(string(read.body), "secret") {
		t.Errorf("got %d %s", read.status, read.body)
	}
	line := g.accessLine(got.Header.Get("x-request-id"))
	if line["level"] != "ERROR" || !strings.Contains(fmt.Sprint(line["cause"]), "secret words") || !strings.Contains(fmt.Sprint(line["cause"]), "server_test.go") {
		t.Errorf("logged as %v", line)
	}
	if got, err := http.Get(panicky + "/silent"); err != nil || g.read(got).status != 500 {
		t.Errorf("a handler without a reply: %v, %v", got, err)
	}
	late, err := http.NewRequest(http.MethodPost, panicky+"/late", nil) // a GET would be repeated by the client
	if err != nil {
		t.Fatal(err)
	}
	late.Header.Set("X-Request-Id", "late")
	if got, err := http.DefaultClient.Do(late); err == nil {
		got.Body.Close()
		t.Error("a reply that broke off looks whole")
	}
	line = g.accessLine("late")
	if line["level"] != "ERROR" || line["status"] != 500.0 || !strings.Contains(fmt.Sprint(line["cause"]), "too late") {
		t.Errorf("logged as %v", line)
	}
	if counted := `gateway_requests_total{reason="INTERNAL",route="/late",status="500"} 1`; !strings.Contains(g.scrape(), counted) {
		t.Errorf("%s is missing from:\n%s", counted, g.scrape())
	}
	g.eventually("no request in flight", func() bool { return strings.Contains(g.scrape(), "gateway_inflight_requests 0") })
}

func TestTextsWhoseTokensWouldNotFitAreNotTokenized(t *testing.T) {
	g := startGateway(t)
	body := func(bytes int) string {
		return `{"model":"` + testkit.ModelName + `","input":["a","` + strings.Repeat("b", bytes-1) + `"]}`
	}
	got := g.post("/v1/tokenize", body(engine.MaxTokenizeBytes+1))
	if got.status != 400 || got.err.Code != "context_length_exceeded" || got.err.Param == nil || *got.err.Param != "input" {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if got := g.post("/v1/tokenize", body(engine.MaxTokenizeBytes)); got.status != http.StatusOK {
		t.Errorf("at the limit: got %d %.300s", got.status, got.body)
	}
}

func TestBase64IsTheHotpathsBytes(t *testing.T) {
	g := startGateway(t)
	vector := make([]byte, 4*testkit.Dimensions)
	for i := range vector {
		vector[i] = byte(i) // among them numbers that JSON cannot say
	}
	copy(vector, []byte{0, 0, 0xc0, 0x7f}) // NaN
	g.hotpath.SetEmbed(func(context.Context, *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		return &inferencev1.EmbedResponse{Dimensions: testkit.Dimensions, Embeddings: vector, TokenCounts: []uint32{3}}, nil
	})
	got := g.embeddings(`{"model":"all-minilm-l6-v2","input":"a","encoding_format":"base64"}`)
	if string(got.Data[0].Embedding) != `"`+base64.StdEncoding.EncodeToString(vector)+`"` {
		t.Error("the bytes changed on the way")
	}
	if got := g.post("/v1/embeddings", oneText); got.status != 500 {
		t.Errorf("NaN as a number: got %d", got.status)
	}
}
