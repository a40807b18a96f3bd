package jwks

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func base64url(bytes []byte) string { return base64.RawURLEncoding.EncodeToString(bytes) }

// set is a document of keys.
func set(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

func ed25519Key(t testing.TB, id string) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","kid":%q,"x":%q}`, id, base64url(public))
}

func p256Key(t testing.TB, id string) (string, *ecdsa.PublicKey) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"kty":"EC","crv":"P-256","kid":%q,"x":%q,"y":%q}`, id, base64url(point[1:33]), base64url(point[33:])), &private.PublicKey
}

func rsaKey(t testing.TB, id string) (string, *rsa.PublicKey) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"kty":"RSA","kid":%q,"alg":"RS256","use":"sig","n":%q,"e":"AQAB"}`, id, base64url(private.N.Bytes())), &private.PublicKey
}

func TestKeysAreFoundByIDAndAlgorithm(t *testing.T) {
	ec, ecPublic := p256Key(t, "ec")
	rsa, rsaPublic := rsaKey(t, "rsa")
	others := []string{ // which are passed over
		`{"kty":"EC","crv":"P-384","kid":"p384","x":"AA","y":"AA"}`, `{"kty":"oct","kid":"oct"}`, `{"kty":"new","kid":"new","more":[1]}`,
		strings.Replace(ed25519Key(t, "enc"), "{", `{"use":"enc",`, 1), strings.Replace(ed25519Key(t, "es"), "{", `{"alg":"ES256",`, 1),
		ed25519Key(t, ""),
	}
	keys, err := parse([]byte(set(append(others, ec, rsa, ed25519Key(t, "ed"))...)))
	if err != nil || len(keys) != 3 {
		t.Fatalf("got %d keys, %v", len(keys), err)
	}
	if !ecPublic.Equal(keys[name{"ec", "ES256"}]) || !rsaPublic.Equal(keys[name{"rsa", "RS256"}]) || keys[name{"ed", "EdDSA"}] == nil {
		t.Errorf("got %v", keys)
	}
	if keys, err := parse([]byte(`{"keys":[]}`)); err != nil || len(keys) != 0 {
		t.Errorf("of none: %v, %v", keys, err)
	}
}

func TestSetsThatAreRefused(t *testing.T) {
	ec, _ := p256Key(t, "ec")
	point := base64url(bytes.Repeat([]byte{1}, 32))
	short := base64url(append([]byte{128}, make([]byte, 127)...))
	for written, want := range map[string]string{
		"":                 "no JSON Web Key Set",
		"[]":               "no JSON Web Key Set",
		"{}":               `no "keys"`,
		`{"keys":null}`:    `no "keys"`,
		set() + "x":        "no JSON Web Key Set",
		set(ec, ec):        "another key has its id",
		set(`{"kty":"a"}`): "none of its keys can be used",
		set(strings.Replace(ec, "{", `{"d":"AA",`, 1)):                                                     "is private",
		set(`{"kty":"oct","k":"AA","kid":"a"}`):                                                            "is private",
		set(strings.Repeat(ec+",", maxKeys) + ec):                                                          "at most 64",
		set(`{"kty":"EC","crv":"P-256","kid":"a","x":"` + point + `","y":"` + point + `"}`):                "none of its keys",
		set(`{"kty":"EC","crv":"P-256","kid":"a","x":"AA","y":"` + point + `"}`):                           `"x" has 1 bytes`,
		set(`{"kty":"OKP","crv":"Ed25519","kid":"a","x":"AA"}`):                                            `"x" has 1 bytes`,
		set(`{"kty":"RSA","kid":"a","n":"` + short + `","e":"AQAB"}`):                                      "1024 bits",
		set(`{"kty":"RSA","kid":"a","n":"!","e":"AQAB"}`):                                                  "no base64url",
		set(`{"kty":"RSA","kid":"a","n":"` + base64url(bytes.Repeat([]byte{255}, 2048)) + `","e":"AQAB"}`): "16384 bits",
		set(`{"kty":"RSA","kid":"a","n":"` + base64url(bytes.Repeat([]byte{255}, 256)) + `","e":"Ag"}`):    "exponent",
	} {
		if keys, err := parse([]byte(written)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.100s: got %v, %v, want %q", written, keys, err, want)
		}
	}
}

// issuer serves a set over TLS.
type issuer struct {
	*testing.T
	answer atomic.Pointer[http.HandlerFunc]
	asked  atomic.Int64
	now    time.Time
	set    *Set
}

func startIssuer(t *testing.T, first string) *issuer {
	i := &issuer{T: t, now: time.Unix(1_800_000_000, 0)}
	i.publish(first)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		(*i.answer.Load())(w, r)
	}))
	t.Cleanup(server.Close)
	client := server.Client()
	client.CheckRedirect = refuseRedirect
	var err error
	i.set, err = Open(t.Context(), Options{URL: server.URL, Interval: time.Minute, Now: func() time.Time { return i.now },
		Logger: slog.New(slog.DiscardHandler), Client: client})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (i *issuer) publish(document string) {
	i.reply(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, document) })
}

func (i *issuer) reply(answer http.HandlerFunc) { i.answer.Store(&answer) }

// after looks at the set when a time has passed.
func (i *issuer) after(passed time.Duration) {
	i.now = i.now.Add(passed)
	i.set.source.Refresh(i.Context(), i.now)
}

func (i *issuer) has(id string) bool {
	_, known := i.set.Key(id, edDSA)
	return known
}

func (i *issuer) expectAsked(times int64) {
	i.Helper()
	if got := i.asked.Load(); got != times {
		i.Errorf("asked %d times, want %d", got, times)
	}
}

func TestARemovedKeyIsGoneWithinTheInterval(t *testing.T) {
	first, second := ed25519Key(t, "first"), ed25519Key(t, "second")
	i := startIssuer(t, set(first, second))
	if !i.has("first") || !i.has("second") {
		t.Fatal("the keys are not there")
	}
	i.publish(set(second))
	i.after(time.Minute - 1)
	i.expectAsked(1)
	i.after(1)
	i.expectAsked(2)
	if i.has("first") || !i.has("second") {
		t.Error("the first should be gone")
	}
	i.publish(set())
	i.after(time.Minute)
	if i.has("second") {
		t.Error("none should be left")
	}
}

func TestUnknownIDsAskOnceInAnInterval(t *testing.T) {
	i := startIssuer(t, set(ed25519Key(t, "first")))
	i.publish(set(ed25519Key(t, "second")))
	for range 1000 {
		i.has("made up")
	}
	i.after(unknownInterval - 1)
	i.expectAsked(1)
	i.after(1)
	i.expectAsked(2)
	if !i.has("second") {
		t.Error("the new key is not there")
	}
	i.after(unknownInterval) // nobody asked since for one that is not there
	i.expectAsked(2)
	i.has("made up")
	i.after(1)
	i.expectAsked(3)
}

func TestTheLastGoodSetStaysInForce(t *testing.T) {
	i := startIssuer(t, set(ed25519Key(t, "first")))
	for what, answer := range map[string]http.HandlerFunc{
		"broken":   func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{") },
		"an error": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"moved":    func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"too large": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"keys":[]`+strings.Repeat(" ", maxSetBytes)+`}`)
		},
	} {
		i.reply(answer)
		asked := i.asked.Load()
		i.after(time.Minute)
		if !i.has("first") || i.set.Staleness(i.now.Add(time.Second)) < time.Second || i.asked.Load() != asked+1 {
			t.Errorf("%s: it does not stay, or is not stale", what)
		}
		i.publish(set(ed25519Key(t, "first")))
		i.after(time.Minute)
		if i.set.Staleness(i.now) != 0 {
			t.Errorf("%s: it is stale for good", what)
		}
	}
}

func TestAnIssuerThatIsAwayAtTheStartIsTakenLater(t *testing.T) {
	i := &issuer{T: t, now: time.Unix(1_800_000_000, 0)}
	var log bytes.Buffer
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*i.answer.Load())(w, r) }))
	server.StartTLS()
	t.Cleanup(server.Close)
	i.reply(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	var err error
	i.set, err = Open(t.Context(), Options{URL: server.URL, Interval: time.Minute, Now: func() time.Time { return i.now },
		Logger: slog.New(slog.NewTextHandler(&log, nil)), Client: server.Client()})
	if err != nil || i.has("first") || !strings.Contains(log.String(), "502") {
		t.Fatalf("got %v, logged %s", err, log.String())
	}
	i.publish(set(ed25519Key(t, "first")))
	i.after(time.Second)
	if !i.has("first") || i.set.Staleness(i.now) != 0 {
		t.Error("it was not taken")
	}
}

func TestTheEndOfTheGatewayEndsAFetch(t *testing.T) {
	i := startIssuer(t, set(ed25519Key(t, "first")))
	i.reply(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := i.set.fetch(ctx); err == nil {
		t.Error("it was taken")
	}
}

func TestAFileIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jwks.json")
	write := func(document string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write(set(ed25519Key(t, "first")))
	s, err := Open(t.Context(), Options{File: path, Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil || Check(path) != nil {
		t.Fatal(err)
	}
	write(set())
	s.source.Refresh(t.Context(), time.Now())
	if _, known := s.Key("first", edDSA); known {
		t.Error("the key is still there")
	}
	write("{")
	if _, err := Open(t.Context(), Options{File: path, Now: time.Now, Logger: slog.New(slog.DiscardHandler)}); err == nil || Check(path) == nil {
		t.Error("a broken file is no error")
	}
	if Check(path+".none") == nil {
		t.Error("a missing file is no error")
	}
}

func FuzzParse(f *testing.F) {
	ec, _ := p256Key(f, "ec")
	rsa, _ := rsaKey(f, "rsa")
	f.Add([]byte(set(ec, rsa, ed25519Key(f, "ed"))))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":null}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parse(data)
		if err != nil && keys != nil || len(keys) > maxKeys {
			t.Errorf("got %v, %v", keys, err)
		}
		for of, key := range keys {
			if of.id == "" || key == nil {
				t.Errorf("got %v of %v", key, of)
			}
		}
	})
}
