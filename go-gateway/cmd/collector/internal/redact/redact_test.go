package redact

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor/processortest"
)

// Secrets as they look, none of which is one. They are put together here, so that whoever scans this repository finds none.
var secrets = map[string]string{
	"ours":        "trip_" + "0a1b2c3d" + "_" + strings.Repeat("Ab3", 14) + "z",
	"webhook":     "whsec_" + strings.Repeat("Ab3/", 8),
	"bearer":      "Bearer " + strings.Repeat("x9.", 6),
	"in capitals": "BEARER\t" + strings.Repeat("x9.", 6),
	"jwt":         "eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
	"unsigned":    "eyJ" + "hbGciOiJub25lIn0.eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0.",
	"openai":      "sk-" + "proj-" + strings.Repeat("aB3_", 10),
	"stripe":      "sk_" + "live_" + strings.Repeat("aB3", 8),
	"github":      "ghp_" + strings.Repeat("aB3d", 9),
	"hub":         "hf_" + strings.Repeat("aB3d", 9),
	"slack":       "xoxb-" + "123456789012-abcdef",
	"google":      "AIza" + strings.Repeat("aB3d-", 7),
	"amazon":      "AKIA" + "IOSFODNN7EXAMPLE",
	"pem":         "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
	"pem, cut":    "-----BEGIN " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA",
	"in a url":    "://user:" + "correcthorse@",
}

// harmless look a little like one, and are what spans have.
var harmless = []string{
	"", "OK", "POST /v1/chat/completions", "triptych.inference.v1.InferenceService/Embed", "all-minilm-l6-v2", "smollm2-135m-instruct",
	"0af7651916cd43dd8448eb211c80319c", "trip_0a1b2c3d", "sk-", "task-force", "a bearer of news", "http://127.0.0.1:4317", "ask-me-anything-about-it",
	"2026-11-29T09:36:06Z", "eyJ", "whsec_", "größer als 3 µs", "rate_limit_exceeded",
}

func TestShapes(t *testing.T) {
	c := cleaner{shapes, 4096}
	for name, secret := range secrets {
		for _, around := range []string{"%", "x=%", "before % after", "[\"%\"]", "\xff%\xfe", "%\n%", strings.Repeat("ä", 1500) + " %"} {
			text := strings.ReplaceAll(around, "%", secret)
			got, found := c.text(text)
			if !found || !utf8.ValidString(got) || !strings.Contains(got, placeholder) {
				t.Errorf("%s in %q: %v, %q", name, around, found, got)
			}
			for _, piece := range strings.FieldsFunc(secret, func(r rune) bool { return strings.ContainsRune(" \t\n.:@_-", r) }) {
				if len(piece) >= 12 && strings.Contains(got, piece) {
					t.Errorf("%s in %q: %q is left", name, around, piece)
				}
			}
		}
	}
	for _, text := range harmless {
		if got, found := c.text(text); found || got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}

func TestTextsAreValidAndShort(t *testing.T) {
	c := cleaner{shapes, 64}
	for _, text := range []string{strings.Repeat("ä", 1000), strings.Repeat("\xff", 1000), "a\xc3", strings.Repeat("x", 63) + "ä"} {
		if got, _ := c.text(text); len(got) > 64 || !utf8.ValidString(got) {
			t.Errorf("%q becomes %q", text[:3], got)
		}
	}
	// A key of which the beginning would be left, and would not look like one.
	key := strings.Repeat("x", 40) + " " + secrets["ours"]
	if got, _ := c.text(key); strings.Contains(got, "trip_") {
		t.Errorf("the beginning of a key is left: %q", got)
	}
}

func TestLongTextsTakeTimeInProportion(t *testing.T) {
	c := cleaner{shapes, 4096}
	for _, piece := range []string{"eyJaaaaaaaa.", "trip_", "bearer ", "://a:", "-----BEGIN PRIVATE KEY-----", "sk-gh_k_hf_xoxAIzaAKIA"} {
		text := strings.Repeat(piece, 1<<20/len(piece))
		start := time.Now()
		c.text(text)
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%q takes %v", piece, took)
		}
	}
}

// process has spans go through the processor.
func process(t *testing.T, config *Config, traces ptrace.Traces) (ptrace.Traces, *componenttest.Telemetry) {
	t.Helper()
	telemetry, sink := componenttest.NewTelemetry(), new(consumertest.TracesSink)
	settings := processortest.NewNopSettings(NewFactory().Type())
	settings.TelemetrySettings = telemetry.NewTelemetrySettings()
	made, err := NewFactory().CreateTraces(t.Context(), settings, config, sink)
	if err != nil {
		t.Fatal(err)
	}
	if err := made.ConsumeTraces(t.Context(), traces); err != nil {
		t.Fatal(err)
	}
	return sink.AllTraces()[0], telemetry
}

func usual() *Config { return NewFactory().CreateDefaultConfig().(*Config) }

// Wherever a span has a text, there may be a secret in it.
func TestNoPlaceIsForgotten(t *testing.T) {
	secret := secrets["ours"]
	places := map[string]func(ptrace.ResourceSpans, ptrace.Span){
		"resource":    func(r ptrace.ResourceSpans, _ ptrace.Span) { r.Resource().Attributes().PutStr("a", secret) },
		"scope":       func(r ptrace.ResourceSpans, _ ptrace.Span) { r.ScopeSpans().At(0).Scope().SetName(secret) },
		"its version": func(r ptrace.ResourceSpans, _ ptrace.Span) { r.ScopeSpans().At(0).Scope().SetVersion(secret) },
		"of the scope": func(r ptrace.ResourceSpans, _ ptrace.Span) {
			r.ScopeSpans().At(0).Scope().Attributes().PutStr("a", secret)
		},
		"name":      func(_ ptrace.ResourceSpans, s ptrace.Span) { s.SetName("GET /" + secret) },
		"status":    func(_ ptrace.ResourceSpans, s ptrace.Span) { s.Status().SetMessage("no such key: " + secret) },
		"state":     func(_ ptrace.ResourceSpans, s ptrace.Span) { s.TraceState().FromRaw("a=" + secret) },
		"attribute": func(_ ptrace.ResourceSpans, s ptrace.Span) { s.Attributes().PutStr("a", secret) },
		"key":       func(_ ptrace.ResourceSpans, s ptrace.Span) { s.Attributes().PutStr(secret, "a") },
		"bytes": func(_ ptrace.ResourceSpans, s ptrace.Span) {
			s.Attributes().PutEmptyBytes("a").FromRaw([]byte("\x00" + secret))
		},
		"slice": func(_ ptrace.ResourceSpans, s ptrace.Span) {
			s.Attributes().PutEmptySlice("a").AppendEmpty().SetStr(secret)
		},
		"map": func(_ ptrace.ResourceSpans, s ptrace.Span) {
			s.Attributes().PutEmptyMap("a").PutEmptySlice("b").AppendEmpty().SetEmptyMap().PutStr(secret, secret)
		},
		"too deep": func(_ ptrace.ResourceSpans, s ptrace.Span) {
			inner := s.Attributes().PutEmptyMap("a")
			for range 200 {
				inner = inner.PutEmptyMap("a")
			}
			inner.PutStr("a", secret)
		},
		"event":       func(_ ptrace.ResourceSpans, s ptrace.Span) { s.Events().AppendEmpty().SetName(secret) },
		"of an event": func(_ ptrace.ResourceSpans, s ptrace.Span) { s.Events().AppendEmpty().Attributes().PutStr("a", secret) },
		"link":        func(_ ptrace.ResourceSpans, s ptrace.Span) { s.Links().AppendEmpty().Attributes().PutStr("a", secret) },
		"state of links": func(_ ptrace.ResourceSpans, s ptrace.Span) {
			s.Links().AppendEmpty().TraceState().FromRaw("a=" + secret)
		},
	}
	for name, put := range places {
		traces := ptrace.NewTraces()
		resource := traces.ResourceSpans().AppendEmpty()
		span := resource.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
		put(resource, span)
		got, telemetry := process(t, usual(), traces)
		line, err := new(ptrace.ProtoMarshaler).MarshalTraces(got) // in JSON bytes are not readable
		if err != nil || strings.Contains(string(line), secret[14:]) {
			t.Errorf("%s: %v: the secret is there", name, err)
		}
		if _, err := telemetry.GetMetric("collector_redacted"); err != nil {
			t.Errorf("%s is not counted: %v", name, err)
		}
	}
}

func TestDepthIsBounded(t *testing.T) {
	traces := ptrace.NewTraces()
	inner := traces.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty().Attributes().PutEmptyMap("a")
	for range 5000 {
		inner = inner.PutEmptyMap("a")
	}
	got, _ := process(t, usual(), traces)
	value, depth := attributesOf(got).AsRaw()["a"], 0
	for inner, is := value.(map[string]any); is; inner, is = value.(map[string]any) {
		value = inner["a"]
		depth++
	}
	if depth != maxDepth || value != placeholder {
		t.Errorf("%v after %d", value, depth)
	}
}

func TestNamesOfSecrets(t *testing.T) {
	for name, secret := range map[string]bool{
		"authorization": true, "http.request.header.Authorization": true, "http.request.header.x-api-key": true, "db.password": true,
		"api_key": true, "set-cookie": true, "gen_ai.usage.input_tokens": false, "triptych.tokens": false, "triptych.tenant": false,
		"token.count": false, "authorizations": false, "": false, ".": false,
	} {
		if namesSecret(name) != secret {
			t.Errorf("%s: %v", name, !secret)
		}
	}
	traces := ptrace.NewTraces()
	attributes := traces.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty().Attributes()
	attributes.PutInt("db.password", 12345)
	attributes.PutEmptySlice("http.request.header.cookie").AppendEmpty().SetStr("short")
	got, _ := process(t, usual(), traces)
	for name, value := range attributesOf(got).All() {
		if value.AsString() != placeholder {
			t.Errorf("%s is %s", name, value.AsString())
		}
	}
}

func attributesOf(traces ptrace.Traces) pcommon.Map {
	return traces.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).Attributes()
}

// What is no secret goes through as it came.
func TestTheRestIsLeftAlone(t *testing.T) {
	traces := ptrace.NewTraces()
	span := traces.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty()
	span.SetName("embeddings all-minilm-l6-v2")
	if err := span.Attributes().FromRaw(map[string]any{
		"a": "b", "n": int64(-1), "f": 0.5, "t": true, "nil": nil, "bytes": []byte{0, 255}, "list": []any{"x", int64(1)}, "map": map[string]any{"k": "v"},
	}); err != nil {
		t.Fatal(err)
	}
	wanted := ptrace.NewTraces()
	traces.CopyTo(wanted)
	got, telemetry := process(t, usual(), traces)
	marshaler := new(ptrace.JSONMarshaler)
	a, _ := marshaler.MarshalTraces(got)
	b, _ := marshaler.MarshalTraces(wanted)
	if string(a) != string(b) {
		t.Errorf("%s\nis not\n%s", a, b)
	}
	if _, err := telemetry.GetMetric("collector_redacted"); err == nil {
		t.Error("something is counted")
	}
}

// A file of lines in JSON is one, whatever comes.
func TestInvalidTextsBecomeJSON(t *testing.T) {
	traces := ptrace.NewTraces()
	span := traces.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty()
	span.SetName("a\xff\x00\n\u2028")
	span.Attributes().PutStr("b\xff", "x")
	span.Attributes().PutStr("c", "\xed\xa0\x80\"\\")
	got, _ := process(t, usual(), traces)
	line, err := new(ptrace.JSONMarshaler).MarshalTraces(got)
	if err != nil || !utf8.Valid(line) || !json.Valid(line) || strings.Contains(string(line), "\n") {
		t.Errorf("%v: %q", err, line)
	}
}

func TestPatternsOfOnesOwn(t *testing.T) {
	config := usual()
	config.Patterns = []string{`ACME-\d{6}`}
	traces := ptrace.NewTraces()
	traces.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty().Attributes().PutStr("a", "is ACME-123456.")
	got, _ := process(t, config, traces)
	if value, _ := attributesOf(got).Get("a"); value.Str() != "is [redacted]." {
		t.Errorf("it is %q", value.Str())
	}
	for _, wrong := range []Config{{Patterns: []string{"("}, MaxValueBytes: 4096}, {MaxValueBytes: 1}} {
		if wrong.Validate() == nil {
			t.Errorf("%v is accepted", wrong)
		}
	}
	if err := usual().Validate(); err != nil {
		t.Error(err)
	}
}
