package server

import (
	"net/http"
	"testing"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
)

func FuzzRequestTimeout(f *testing.F) {
	for _, seed := range []string{"", "1", "0.001", "86400", "86400.001", "1e9", "+1", " 1", "0x1p3", "١"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		timeout, err := requestTimeout(http.Header{timeoutHeader: {sent}})
		if err != nil {
			if fault.Of(err).Reason != fault.InvalidValue || timeout != 0 {
				t.Fatalf("%q: %v, %v", sent, timeout, err)
			}
			return
		}
		if timeout < time.Millisecond || timeout > identity.MaxRequestSeconds*time.Second {
			t.Fatalf("%q gave %v", sent, timeout)
		}
	})
}

// FuzzIdentity holds that what becomes an id, in a header, a log and a call, has its shape, whatever was sent.
func FuzzIdentity(f *testing.F) {
	f.Add("", "")
	f.Add("a-b_c.d", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	f.Add("a\r\nSet-Cookie: b", "00-00000000000000000000000000000000-b7ad6b7169203331-01")
	f.Fuzz(func(t *testing.T, id, parent string) {
		if got := requestID(id); !validRequestID.MatchString(got) {
			t.Fatalf("%q became %q", id, got)
		}
		if got := traceparent(parent); !validTraceparent.MatchString(got) || len(traceID(got)) != 32 {
			t.Fatalf("%q became %q", parent, got)
		}
	})
}

func FuzzBodyHeaders(f *testing.F) {
	f.Add("application/json; charset=utf-8", "identity")
	f.Add("text/plain", "gzip")
	f.Add(";;=", "\xff")
	f.Fuzz(func(t *testing.T, kind, encoding string) {
		err := checkBodyHeaders(http.Header{"Content-Type": {kind}, "Content-Encoding": {encoding}})
		if err != nil && fault.Of(err).Reason != fault.InvalidValue {
			t.Fatalf("%q, %q: %v", kind, encoding, err)
		}
		if err == nil && encoding != "" && encoding != "identity" {
			t.Fatalf("a body with the encoding %q is taken as it is", encoding)
		}
	})
}
