package server

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"testing"
	"time"
	"unicode/utf8"

	"triptych.dev/gateway/internal/adminapi"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
)

// checkRefusedBody holds that what is refused is the sender's fault, and names one of the fields that there are.
func checkRefusedBody(t *testing.T, body []byte, err error, fields ...string) {
	t.Helper()
	failure := fault.Of(err)
	of := func(reasons ...fault.Reason) bool { return slices.Contains(reasons, failure.Reason) }
	switch {
	case of(fault.InvalidJSON, fault.InvalidUTF8, fault.UnsupportedParameter): // whose names are the sender's
	case of(fault.InvalidValue, fault.MissingField) && slices.ContainsFunc(fields, func(field string) bool {
		return failure.Param == field || len(failure.Param) > len(field) && failure.Param[:len(field)+1] == field+"["
	}):
	default:
		t.Fatalf("%q: %v, of %q", body, err, failure.Param)
	}
}

// FuzzAdminKey holds that what an operator's program asks for is understood, within what a key may be, or refused by the
// name of a field; and that it is the same if it is written and read again.
func FuzzAdminKey(f *testing.F) {
	for _, seed := range []string{
		`{"tenant":"acme"}`, `{"tenant":"acme","lifetime_seconds":3600,"scopes":["embeddings","model:a"]}`, `{"tenant":null}`, `{"tenant":1}`, `{}`,
		`{"tenant":"a","lifetime_seconds":0}`, `{"tenant":"a","lifetime_seconds":-1}`, `{"tenant":"a","lifetime_seconds":1e300}`, `{"tenant":"a","lifetime_seconds":9223372036854775807}`,
		`{"tenant":"a","scopes":["no such"]}`, `{"tenant":"a","scopes":[[]]}`, `{"tenant":"a","tenant":"b"}`, "{\"tenant\":\"\xff\"}", `{"tenant":"\ud800"}`,
		`{"tenants":"a"}`, `[`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		asked, err := readKeyAsked(body)
		if err != nil {
			checkRefusedBody(t, body, err, "tenant", "lifetime_seconds", "scopes")
			return
		}
		if asked.lifetime < 0 || asked.lifetime > identity.MaxLifetime || asked.lifetime%time.Second != 0 || len(asked.scopes) > identity.MaxScopes ||
			!utf8.ValidString(asked.tenant) || CheckScopes(asked.scopes) != nil {
			t.Fatalf("%q gave %+v", body, asked)
		}
		written := map[string]any{"tenant": asked.tenant}
		if asked.lifetime > 0 {
			written["lifetime_seconds"] = int64(asked.lifetime.Seconds())
		}
		if asked.scopes != nil {
			written["scopes"] = asked.scopes
		}
		text, err := json.Marshal(written)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := readKeyAsked(text); err != nil || !reflect.DeepEqual(again, asked) {
			t.Fatalf("%q gave %+v, and, written as %q, %+v, %v", body, asked, text, again, err)
		}
	})
}

// FuzzAdminRotation is of the other body that the admin API takes.
func FuzzAdminRotation(f *testing.F) {
	for _, seed := range []string{"", " ", `{}`, `{"overlap_seconds":0}`, `{"overlap_seconds":-1}`, `{"overlap_seconds":315360001}`, `{"overlap_seconds":"1"}`, `null`,
		`{"scopes":[]}`, `{"scopes":["class:batch"]}`, `{"scopes":["class:x"]}`, `{"scopes":null}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		asked, err := readRotation(body)
		if err != nil {
			checkRefusedBody(t, body, err, "overlap_seconds", "scopes")
		} else if _, err := identity.ParseScopes(asked.scopes); err != nil || asked.overlap < 0 || asked.overlap > identity.MaxLifetime {
			t.Fatalf("%q gave %v, %v", body, asked, err)
		}
	})
}

// FuzzQuery holds that of a URL's parameters each is one that there is, as it was sent, and that a page has bounds.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{
		"", "limit=1", "limit=100&after=job_0123456789abcdef01234567", "limit=0", "limit=101", "limit=+1", "limit=%31", "limit=1&limit=2", "limit", "=", "&&",
		"after=a%00b", "after=%zz", "limit=9999999999999999999", "more=1", "%ff=1", "a;b=c", "wait=60", "after=job_\u00e9",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		ex := &exchange{request: &http.Request{URL: &url.URL{RawQuery: sent}}, writer: httptest.NewRecorder()}
		refused := func(err error) bool {
			t.Helper()
			failure := fault.Of(err)
			if err != nil && (failure.Reason != fault.InvalidValue && failure.Reason != fault.UnsupportedParameter || len(failure.Message) > 1000) {
				t.Fatalf("%q: %v", sent, err)
			}
			return err != nil
		}
		asked, err := query(ex, "limit", "after", "wait")
		if refused(err) {
			return
		}
		written, all := url.Values{}, (&url.URL{RawQuery: sent}).Query()
		for name, value := range asked {
			if name != "limit" && name != "after" && name != "wait" || len(all[name]) != 1 {
				t.Fatalf("%q: %q is taken, of %q", sent, name, all)
			}
			written.Set(name, value)
		}
		ex.request.URL.RawQuery = written.Encode()
		if again, err := query(ex, "limit", "after", "wait"); err != nil || !reflect.DeepEqual(again, asked) {
			t.Fatalf("%q gave %q, and, written again, %q, %v", sent, asked, again, err)
		}
		if after, most, err := readPage(asked, jobID, "job"); !refused(err) && (most < 1 || most > maxPage || after != asked["after"] || after != "" && !jobID.MatchString(after)) {
			t.Fatalf("%q: %d after %q", sent, most, after)
		}
		if size, err := pageSize(asked["limit"]); !refused(err) && (size < 1 || size > adminapi.MaxPage) {
			t.Fatalf("%q: a page of %d", sent, size)
		}
		if wait, err := readWait(asked); !refused(err) && (wait < 0 || wait > maxWait*time.Second) {
			t.Fatalf("%q: waits for %v", sent, wait)
		}
		if before, err := readBefore(asked); !refused(err) && (before < 0 || (before == 0) != (asked["after"] == "")) {
			t.Fatalf("%q: before %d", sent, before)
		}
	})
}

// FuzzBodyFields holds that a request is the same as itself, and another one where its bytes are others: the fields by which
// repetitions are told from other requests are bounded, whatever was sent.
func FuzzBodyFields(f *testing.F) {
	for _, seed := range []string{`{"a":1,"b":{"c":[]}}`, `{"a":1,"a":2}`, `{`, ``, `[]`, `null`, "{\"\xff\":1}", `{"\u0000":"\ud800"}`} {
		f.Add([]byte(seed), []byte(`{"a":1}`))
	}
	f.Add([]byte(`null`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, one, other []byte) {
		fields := bodyFields(one)
		if len(fields) > maxComparedFields || len(fields.differing(bodyFields(slices.Clone(one)))) > 0 {
			t.Fatalf("%q has %d fields, or differs from itself", one, len(fields))
		}
		for name, hash := range fields {
			if len(name) > maxFieldBytes || len(hash) != 32 {
				t.Fatalf("%q: %q is %q", one, name, hash)
			}
		}
		different := len(fields.differing(bodyFields(other))) > 0
		var first, second any
		if !different && json.Unmarshal(one, &first) == nil && json.Unmarshal(other, &second) == nil && !reflect.DeepEqual(first, second) {
			t.Fatalf("%q and %q are told to be the same", one, other)
		}
	})
}
