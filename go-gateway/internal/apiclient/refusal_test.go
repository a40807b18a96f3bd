package apiclient

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestEndpoint(t *testing.T) {
	for _, address := range []string{"http://a:1", "http://a:1/", "http://a:1/v1", "http://a:1/v1/"} {
		if got := Endpoint(address, "jobs"); got != "http://a:1/v1/jobs" {
			t.Errorf("%s: %s", address, got)
		}
	}
}

func TestReadRefusal(t *testing.T) {
	const longest = time.Minute
	for _, c := range []struct {
		header http.Header
		body   string
		want   Refusal
	}{
		{nil, `{"error":{"message":"m","type":"t","param":"input[1]","code":"c"}}`, Refusal{Message: "m", Param: "input[1]", Code: "c"}},
		{nil, `{"error":{"message":"m","param":null,"code":null}}`, Refusal{Message: "m"}},
		{nil, `{"error":{"code":"c"}}`, Refusal{Message: "Service Unavailable", Code: "c"}},
		{nil, "<html>", Refusal{Message: "Service Unavailable"}},
		{nil, `{"error":"` + strings.Repeat("x", 2*mostError) + `"}`, Refusal{Message: "Service Unavailable"}},
		{http.Header{"X-Should-Retry": {"false"}}, "", Refusal{Message: "Service Unavailable", Never: true}},
		{http.Header{"X-Should-Retry": {"true"}}, "", Refusal{Message: "Service Unavailable"}},
		{http.Header{"Retry-After": {"3"}}, "", Refusal{Message: "Service Unavailable", Pause: 3 * time.Second}},
		{http.Header{"Retry-After": {"3"}, "Retry-After-Ms": {"2500.5"}}, "", Refusal{Message: "Service Unavailable", Pause: 2500500 * time.Microsecond}},
		{http.Header{"Retry-After": {"3"}, "Retry-After-Ms": {"0"}}, "", Refusal{Message: "Service Unavailable", Pause: 3 * time.Second}},
		{http.Header{"Retry-After": {"1e300"}}, "", Refusal{Message: "Service Unavailable", Pause: longest}},
		{http.Header{"Retry-After-Ms": {"Inf"}}, "", Refusal{Message: "Service Unavailable", Pause: longest}},
		{http.Header{"Retry-After": {"NaN"}}, "", Refusal{Message: "Service Unavailable"}},
		{http.Header{"Retry-After": {"-1"}}, "", Refusal{Message: "Service Unavailable"}},
		{http.Header{"Retry-After": {"Sat, 28 Nov 2026 20:00:00 GMT"}}, "", Refusal{Message: "Service Unavailable"}},
	} {
		c.want.Status = http.StatusServiceUnavailable
		response := &http.Response{StatusCode: http.StatusServiceUnavailable, Header: c.header, Body: io.NopCloser(strings.NewReader(c.body))}
		if got := ReadRefusal(response, longest); *got != c.want {
			t.Errorf("%v %.50s: %+v, not %+v", c.header, c.body, *got, c.want)
		}
	}
}
