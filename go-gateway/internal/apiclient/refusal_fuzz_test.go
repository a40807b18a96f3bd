package apiclient

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzRefusal holds that whatever is between may answer in its own words: it is read as far as it may be, is a refusal of
// the status that it has, and asks for a pause within its bounds.
func FuzzRefusal(f *testing.F) {
	f.Add(503, "3", "2500.5", "false", []byte(`{"error":{"message":"m","type":"t","param":"input[1]","code":"c"}}`))
	f.Add(429, "1e300", "", "true", []byte(`{"error":{"code":null}}`))
	f.Add(502, "-1", "NaN", "", []byte("<html>"))
	f.Add(0, "Sat, 28 Nov 2026 20:00:00 GMT", "+Inf", "", []byte("{\"error\":{\"message\":\"\xff\"}}"))
	f.Add(500, "0x1p3", "1e-300", "", bytes.Repeat([]byte(`{"error":`), mostError/8))
	f.Fuzz(func(t *testing.T, status int, seconds, milliseconds, again string, body []byte) {
		const longest = time.Minute
		header := http.Header{"Retry-After": {seconds}, "Retry-After-Ms": {milliseconds}, "X-Should-Retry": {again}}
		rest := bytes.NewReader(body)
		got := ReadRefusal(&http.Response{StatusCode: status, Header: header, Body: io.NopCloser(rest)}, longest)
		if got.Status != status || got.Pause < 0 || got.Pause > longest || got.Never != (again == "false") || len(body)-rest.Len() > mostError {
			t.Fatalf("%+v, of %d bytes %d were read", got, len(body), len(body)-rest.Len())
		}
		for _, text := range []string{got.Message, got.Code, got.Param} {
			if !utf8.ValidString(text) || len(text) > 3*mostError { // each byte that is none becomes a sign of three
				t.Fatalf("%q", text)
			}
		}
		written, err := json.Marshal(map[string]any{"error": map[string]any{"message": got.Message, "code": got.Code, "param": got.Param}})
		if err != nil {
			t.Fatal(err)
		}
		if len(written) > mostError {
			return
		}
		if same := ReadRefusal(&http.Response{StatusCode: status, Header: header, Body: io.NopCloser(bytes.NewReader(written))}, longest); *same != *got {
			t.Fatalf("%+v, and, written as %q, %+v", got, written, same)
		}
	})
}
