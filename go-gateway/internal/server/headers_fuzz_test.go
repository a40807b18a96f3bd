package server

import (
	"cmp"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/plans"
	"triptych.dev/gateway/internal/store"
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
		if timeout < time.Millisecond || timeout > plans.MaxRequestSeconds*time.Second {
			t.Fatalf("%q gave %v", sent, timeout)
		}
	})
}

func FuzzIdempotencyKey(f *testing.F) {
	for _, seed := range []string{"", "a", "6f1c2c34-5e0b-4c39-9c3f-0a9c1d6c1b11", " ", "\t", "ключ", "a\r\nb"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		key, err := idempotencyKey(http.Header{idempotencyHeader: {sent}})
		if err != nil {
			if fault.Of(err).Reason != fault.InvalidValue || key != "" {
				t.Fatalf("%q: %q, %v", sent, key, err)
			}
			return
		}
		if key != sent || len(key) < 1 || len(key) > 255 {
			t.Fatalf("%q gave %q", sent, key)
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
		if got := cmp.Or(traceparent(parent), newTraceparent()); !validTraceparent.MatchString(got) || len(traceID(got)) != 32 {
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

// FuzzContentRange holds that what a client asks for of a file is a part of it.
func FuzzContentRange(f *testing.F) {
	for _, seed := range []string{"bytes=0-", "bytes=-1", "bytes=2-1", "bytes=-0", "bytes=999999999999999999-", "bytes=0-1,2-3", "bytes=-"} {
		f.Add(seed, "", int64(3))
	}
	f.Fuzz(func(t *testing.T, asked, condition string, size int64) {
		size = max(0, size)
		request := httptest.NewRequest(http.MethodGet, filesRoute, nil)
		request.Header.Set("Range", asked)
		request.Header.Set("If-Range", condition)
		ex := &exchange{request: request, writer: httptest.NewRecorder()}
		first, length, err := ex.contentRange(store.File{Bytes: size})
		if err != nil {
			if fault.Of(err).Reason != fault.RangeNotSatisfiable {
				t.Fatalf("%q of %d: %v", asked, size, err)
			}
			return
		}
		if first < 0 || length < 0 || length > size-first || (length == 0) != (size == 0) {
			t.Fatalf("%q of %d: %d bytes from %d", asked, size, length, first)
		}
	})
}
