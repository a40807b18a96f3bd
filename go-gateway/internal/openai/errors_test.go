package openai

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/testkit"
)

func TestTableEqualsTheDocument(t *testing.T) {
	documented := testkit.ErrorTable(t)
	for reason, row := range table {
		want, ok := documented[string(reason)]
		if !ok {
			t.Errorf("%s is not in docs/errors.md", reason)
			continue
		}
		retry := map[bool]string{true: "yes", false: "no"}[row.retry]
		got := testkit.ErrorRow{
			Reason: string(reason), GRPC: want.GRPC, // which is package engine's to test
			Status: strconv.Itoa(row.status), Type: row.errorType, Code: row.code, Retry: retry,
		}
		if got != want {
			t.Errorf("code has %+v, docs/errors.md has %+v", got, want)
		}
		delete(documented, string(reason))
	}
	for name := range documented {
		t.Errorf("docs/errors.md has %s, which the code does not know", name)
	}
}

func TestTableHasEveryReason(t *testing.T) {
	source := testkit.RepoFile(t, "go-gateway/internal/fault/fault.go")
	reasons := regexp.MustCompile(` Reason = "([A-Z_0-9]+)"`).FindAllSubmatch(source, -1)
	for _, reason := range reasons {
		if _, known := table[fault.Reason(reason[1])]; !known {
			t.Errorf("%s is not in the table", reason[1])
		}
	}
	if len(reasons) != len(table) {
		t.Errorf("%d reasons, %d rows", len(reasons), len(table))
	}
}

func TestRenderErrorIsOpenAIsObject(t *testing.T) {
	header := http.Header{}
	status, body := RenderError(header, fault.InField(fault.EmptyInput, "input[1]", `input[1] is "empty".`), "req_1")
	want := `{"error":{"message":"input[1] is \"empty\".","type":"invalid_request_error","param":"input[1]","code":"empty_input"}}`
	if status != 400 || string(body) != want || len(header) != 0 {
		t.Errorf("got %d %s %v", status, body, header)
	}
	_, body = RenderError(header, fault.New(fault.InvalidJSON, "no field"), "req_1")
	if !strings.Contains(string(body), `"param":null`) {
		t.Errorf("an error of no field has %s", body)
	}
}

func TestRenderErrorHidesFaultsOfOurs(t *testing.T) {
	hidden := &fault.Fault{Reason: fault.Internal, Message: "open /secret: denied", Param: "secret", Cause: http.ErrBodyNotAllowed}
	for _, failure := range []*fault.Fault{hidden, {Message: "secret"}, {Reason: "SECRET", Message: "secret"}} {
		status, body := RenderError(http.Header{}, failure, "req_7")
		if status != 500 || strings.Contains(string(body), "secret") || !strings.Contains(string(body), "req_7") {
			t.Errorf("got %d %s", status, body)
		}
	}
}

func TestRenderErrorEncodesAnyMessage(t *testing.T) {
	_, body := RenderError(http.Header{}, fault.New(fault.InvalidValue, "\xff\x00</script>\u2028\""), "req_1")
	var decoded errorBody
	if err := json.Unmarshal(body, &decoded); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	if decoded.Error.Message != "\ufffd\x00</script>\u2028\"" {
		t.Errorf("got %q", decoded.Error.Message)
	}
}

func TestRetryHeaders(t *testing.T) {
	cases := []struct {
		reason                       fault.Reason
		after                        time.Duration
		seconds, millis, shouldRetry string
	}{
		{fault.RateLimited, 2500 * time.Millisecond, "3", "2500", ""},
		{fault.RateLimited, 2500*time.Millisecond + time.Nanosecond, "3", "2501", ""},
		{fault.RateLimited, time.Microsecond, "1", "1", ""},
		{fault.RateLimited, time.Minute, "60", "60000", ""},
		{fault.RateLimited, time.Minute + time.Nanosecond, "60", "60000", "false"},
		{fault.ConcurrencyLimited, 0, "1", "1000", ""},
		{fault.ConcurrencyLimited, 2 * time.Minute, "60", "60000", ""},
		{fault.QueueFull, time.Hour, "60", "60000", ""},
		{fault.QueueFull, 0, "1", "1000", ""},
		{fault.HotpathUnavailable, -time.Second, "1", "1000", ""},
		{fault.ModelNotReady, 0, "1", "1000", ""},
		{fault.DeadlineExceeded, time.Second, "", "", "false"},
		{fault.BodyTimeout, 0, "", "", "false"},
		{fault.Internal, 0, "", "", ""},
		{fault.InvalidValue, 0, "", "", ""},
	}
	for _, c := range cases {
		header := http.Header{}
		RenderError(header, &fault.Fault{Reason: c.reason, RetryAfter: c.after}, "req_1")
		got := [3]string{header.Get("retry-after"), header.Get("retry-after-ms"), header.Get("x-should-retry")}
		if got != [3]string{c.seconds, c.millis, c.shouldRetry} {
			t.Errorf("%s after %v: got %q", c.reason, c.after, got)
		}
	}
}

func TestErrorsOfInputsInTheRequestsTerms(t *testing.T) {
	cases := []struct {
		field       string
		single      bool
		param, says string
	}{
		{"inputs[3]", false, "input[3]", "`input[3]` is bad"},
		{"inputs[0]", true, "input", "`input` is bad"},
		{"inputs[0]", false, "input[0]", "`input[0]` is bad"},
		{"inputs", false, "input", "`input` is bad"},
		{"inputs[12].token_ids.ids[4]", false, "input[12]", "`input[12]` is bad"},
		{"texts[1]", false, "input[1]", "`input[1]` is bad"},
		{"dimensions", false, "dimensions", "`dimensions` is bad"},
		{"model", true, "model", "`model` is bad"},
		{"", false, "", "`` is bad"},
	}
	for _, c := range cases {
		got := inputTerms{c.single}.Explain(fault.InField(fault.InvalidValue, c.field, "`%s` is bad", c.field))
		if got.Reason != fault.InvalidValue || got.Param != c.param || got.Message != c.says {
			t.Errorf("%q: got %+v", c.field, got)
		}
	}
	quoted := inputTerms{}.Explain(fault.InField(fault.InvalidValue, "texts", "`texts` has 3 texts; texts are `texts`"))
	if quoted.Message != "`input` has 3 texts; texts are `texts`" {
		t.Errorf("got %q", quoted.Message)
	}
	named := inputTerms{}.Explain(fault.InField(fault.ModelNotFound, "model", "there is no model \"`model`\""))
	if named.Message != "there is no model \"`model`\"" {
		t.Errorf("got %q", named.Message)
	}
	got := inputTerms{}.Explain(fault.InField(fault.InvalidValue, "scheduling.priority", "a detail of ours"))
	if got.Reason != fault.Internal || got.Param != "" {
		t.Errorf("a field that the gateway sets: got %+v", got)
	}
}
