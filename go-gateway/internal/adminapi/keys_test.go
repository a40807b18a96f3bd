package adminapi

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// asked is what a client sent.
type asked struct{ method, path, token, once, body string }

// answering serves one reply to all, and tells what came.
func answering(t *testing.T, status int, reply string) (*Client, *asked) {
	t.Helper()
	got := new(asked)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		*got = asked{r.Method, r.URL.Path, r.Header.Get("Authorization"), r.Header.Get("Idempotency-Key"), string(body)}
		w.WriteHeader(status)
		if _, err := io.WriteString(w, reply); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	client := NewClient(strings.TrimPrefix(server.URL, "http://"), "token")
	t.Cleanup(client.Close)
	return client, got
}

func TestKeysAreAskedFor(t *testing.T) {
	client, got := answering(t, http.StatusOK, `{"object":"api_key","id":"abcdefgh","tenant":"acme","created":7,"expires":null,"scopes":[],"key":"trip_abcdefgh_secret"}`)
	cases := []struct {
		ask  func() (Key, error)
		want asked
	}{
		{func() (Key, error) { return client.CreateKey(t.Context(), "once", "acme", nil) },
			asked{"POST", "/admin/v1/keys", "Bearer token", "once", `{"scopes":[],"tenant":"acme"}`}},
		{func() (Key, error) {
			return client.RotateKey(t.Context(), "once", "ij/kl", 90*time.Second, []string{"class:batch"})
		}, asked{"POST", "/admin/v1/keys/ij%2Fkl/rotate", "Bearer token", "once", `{"overlap_seconds":90,"scopes":["class:batch"]}`}},
		{func() (Key, error) { return client.RevokeKey(t.Context(), "ijkl") }, asked{"POST", "/admin/v1/keys/ijkl/revoke", "Bearer token", "", ""}},
		{func() (Key, error) { return client.FindKey(t.Context(), "ijkl") }, asked{"GET", "/admin/v1/keys/ijkl", "Bearer token", "", ""}},
	}
	for _, c := range cases {
		key, err := c.ask()
		if err != nil || *got != c.want || key.ID != "abcdefgh" || key.Key != "trip_abcdefgh_secret" || key.Created != 7 || key.Expires != nil {
			t.Errorf("sent %+v, got %+v, %v", *got, key, err)
		}
	}
}

func TestARefusalHasItsCodeAndItsField(t *testing.T) {
	client, _ := answering(t, http.StatusBadRequest, `{"error":{"message":"There is no tenant.","type":"invalid_request_error","param":"tenant","code":"invalid_value"}}`)
	_, err := client.CreateKey(t.Context(), "once", "acme", nil)
	said, is := errors.AsType[RefusedError](err)
	if want := (RefusedError{400, "invalid_value", "tenant", "There is no tenant."}); !is || said != want {
		t.Errorf("got %+v", err)
	}
}

func TestWhatIsNoKeyIsNotQuoted(t *testing.T) {
	for _, reply := range []string{`{"key":"trip_abcdefgh_secret"`, `{"key":"trip_abcdefgh_secret"}`, `[]`, ``} {
		client, _ := answering(t, http.StatusOK, reply)
		if key, err := client.FindKey(t.Context(), "abcdefgh"); err == nil || strings.Contains(err.Error(), "secret") || key.Key != "" {
			t.Errorf("%s: got %+v, %v", reply, key, err)
		}
	}
}

func TestATokenThatCannotBeHadIsToldAndNothingIsSent(t *testing.T) {
	_, got := answering(t, http.StatusOK, `{}`)
	broken := errors.New("no token")
	client := NewClientWith("127.0.0.1:1", func() (string, error) { return "", broken })
	defer client.Close()
	if _, err := client.FindKey(t.Context(), "abcdefgh"); !errors.Is(err, broken) || got.method != "" {
		t.Errorf("got %v", err)
	}
}
