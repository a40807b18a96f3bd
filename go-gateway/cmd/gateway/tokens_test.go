package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"triptych.dev/gateway/internal/adminapi"
)

// issuer makes tokens, and publishes its key in a file.
type issuer struct {
	*testing.T
	private ed25519.PrivateKey
	file    string
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{t, private, filepath.Join(t.TempDir(), "jwks.json")}
	i.publish(fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"one","x":%q}]}`, base64.RawURLEncoding.EncodeToString(public)))
	return i
}

func (i *issuer) publish(set string) {
	i.Helper()
	fresh := i.file + ".new"
	if err := os.WriteFile(fresh, []byte(set), 0o600); err != nil {
		i.Fatal(err)
	}
	if err := os.Rename(fresh, i.file); err != nil {
		i.Fatal(err)
	}
}

func (i *issuer) flags(more ...string) []string {
	return append([]string{"--jwt-issuer", "https://issuer.example", "--jwt-audience", "gateway", "--jwks-file", i.file}, more...)
}

func (i *issuer) sign(changes jwt.MapClaims) string {
	i.Helper()
	claims := jwt.MapClaims{"iss": "https://issuer.example", "aud": "gateway", "sub": "the-subject", "tenant": "acme", "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(claims, changes)
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	token.Header["kid"] = "one"
	signed, err := token.SignedString(i.private)
	if err != nil {
		i.Fatal(err)
	}
	return signed
}

func TestTokensAreTakenWhileTheirKeyIsPublished(t *testing.T) {
	site, issuer := newSite(t), newIssuer(t)
	g := site.serve(issuer.flags("--jwt-plan-claim", "plan", "--jwt-scopes-claim", "scope", "--log-level", "debug")...)
	api, operations := address(t, g.log, "http"), address(t, g.log, "metrics")
	eventually(t, "ready", func() bool { return get(api, "/readyz") == http.StatusOK })
	tokens := map[string]int{
		issuer.sign(jwt.MapClaims{"scope": "openid"}):                                http.StatusOK,
		issuer.sign(jwt.MapClaims{"scope": []string{"endpoint:/v1/embeddings"}}):     http.StatusOK,
		issuer.sign(jwt.MapClaims{"scope": "endpoint:/v1/tokenize"}):                 http.StatusForbidden,
		issuer.sign(jwt.MapClaims{"scope": "model:another"}):                         http.StatusForbidden,
		issuer.sign(jwt.MapClaims{"scope": "", "tenant": "guest", "plan": "p"}):      http.StatusOK,
		issuer.sign(jwt.MapClaims{"scope": "", "tenant": "guest"}):                   http.StatusUnauthorized,
		issuer.sign(jwt.MapClaims{"scope": "", "exp": time.Now().Unix() - 60}):       http.StatusUnauthorized,
		issuer.sign(jwt.MapClaims{"scope": "", "iss": "https://another.example"}):    http.StatusUnauthorized,
		issuer.sign(jwt.MapClaims{"scope": "", "aud": "another"}):                    http.StatusUnauthorized,
		issuer.sign(jwt.MapClaims{"scope": "", "more": strings.Repeat("a", 20<<10)}): http.StatusUnauthorized,
		strings.Replace(issuer.sign(jwt.MapClaims{"scope": ""}), ".", ".e30", 1):     http.StatusUnauthorized,
	}
	for token, want := range tokens {
		if got := embed(api, token); got != want {
			t.Errorf("%.80s…: got %d, want %d", token, got, want)
		}
	}
	good := issuer.sign(jwt.MapClaims{"scope": ""})
	tokens[good] = http.StatusOK
	if got := embed(api, good); got != http.StatusOK {
		t.Errorf("got %d", got)
	}
	issuer.publish("{") // the last good set stays
	eventually(t, "the broken set in the metrics", func() bool {
		text := getText(operations, "/metrics")
		return strings.Contains(text, `gateway_source_stale_seconds{source="jwks"}`) && !strings.Contains(text, `gateway_source_stale_seconds{source="jwks"} 0`+"\n")
	})
	if got := embed(api, good); got != http.StatusOK {
		t.Errorf("with a broken set: got %d", got)
	}
	issuer.publish(`{"keys":[]}`)
	eventually(t, "the end of the key", func() bool { return embed(api, good) == http.StatusUnauthorized })

	// Nothing of a token, not even its readable parts, is in what the gateway tells or hands on.
	told := g.log.String() + getText(operations, "/metrics") + fmt.Sprint(site.hotpath.Calls())
	for token := range tokens {
		for _, part := range strings.Split(token, ".") {
			if strings.Contains(told, part) {
				t.Errorf("a piece of a token is told: %s", part)
			}
		}
	}
	for _, part := range []string{"the-subject", "eyJ"} {
		if strings.Contains(told, part) {
			t.Errorf("%q is told", part)
		}
	}
	for _, why := range []string{"the token has expired", "the token is of another issuer", "the token is for another audience", "more than 8192 bytes"} {
		if !strings.Contains(told, why) {
			t.Errorf("the log does not say why: %s", why)
		}
	}
}

func TestLimitsOfWhoeverHasTokensAreExplained(t *testing.T) {
	const most = 2
	site, issuer := newSite(t), newIssuer(t)
	tenants := "plans: {p: {requests_per_minute: 1000, key: {requests_per_minute: 2}}}\ntenants: {acme: {plan: p}}\n"
	if err := os.WriteFile(site.tenants, []byte(tenants), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := site.adminFlags()
	g := site.serve(append(issuer.flags("--jwt-plan-claim", "plan"), flags...)...)
	api := address(t, g.log, "http")
	eventually(t, "ready", func() bool { return get(api, "/readyz") == http.StatusOK })
	explain := func(arguments ...string) (status int, told adminapi.Limits, stderr string) {
		arguments = append([]string{"limits", "explain", "--json", "--admin-address", address(t, g.log, "admin"), flags[2], flags[3]}, arguments...)
		status, stdout, stderr := execute(t, arguments...)
		if status == exitOK {
			if err := json.Unmarshal([]byte(stdout), &told); err != nil {
				t.Fatal(err)
			}
		}
		return status, told, stderr
	}
	usedBy := func(told adminapi.Limits) int64 {
		for _, row := range told.Data {
			if row.Scope == "key" && row.Class == "interactive" {
				return row.Used
			}
		}
		return -1
	}

	for _, tenant := range []string{"acme", "guest"} { // the second one is in tokens alone
		token := issuer.sign(jwt.MapClaims{"sub": "a user/of " + tenant, "tenant": tenant, "plan": "p"})
		for range most {
			if got := embed(api, token); got != http.StatusOK {
				t.Fatalf("%s: got %d", tenant, got)
			}
		}
		if got := embed(api, token); got != http.StatusTooManyRequests {
			t.Errorf("%s: one more gets %d", tenant, got)
		}
		status, told, stderr := explain("--tenant", tenant, "--subject", "a user/of "+tenant)
		if status != exitOK || told.Tenant != tenant || told.Plan != "p" || usedBy(told) != most || len(told.Refusals) != 1 {
			t.Fatalf("%s: %d %+v %s", tenant, status, told, stderr)
		}
		id := told.Refusals[0].Key
		if status, again, stderr := explain("--tenant", tenant, "--key", id); status != exitOK || usedBy(again) != most {
			t.Errorf("%s: %s: %d %+v %s", tenant, id, status, again, stderr)
		}
		if _, told, _ := explain("--tenant", tenant, "--subject", "another"); usedBy(told) != 0 || len(told.Refusals) != 0 {
			t.Errorf("%s: another subject: %+v", tenant, told)
		}
	}
	if strings.Contains(g.log.String(), "a user") {
		t.Error("a subject is logged")
	}
	for _, c := range []struct {
		arguments []string
		status    int
		says      string
	}{
		{[]string{"--tenant", "acme", "--subject", "a", "--key", "b"}, exitUsage, "--key and --subject"},
		{[]string{"--tenant", "stranger", "--subject", "a"}, exitFailed, "no tenant"},
		{[]string{"--tenant", "acme", "--key", "jwt_0123"}, exitFailed, "no key with this id"},
	} {
		if status, _, stderr := explain(c.arguments...); status != c.status || !strings.Contains(stderr, c.says) {
			t.Errorf("%q: %d %s", c.arguments, status, stderr)
		}
	}
}

func TestServeChecksTheSettingsOfTokens(t *testing.T) {
	site, issuer := newSite(t), newIssuer(t)
	site.createKey()
	if status, _, stderr := execute(t, append(site.serveArguments("--check-config"), issuer.flags()...)...); status != exitOK {
		t.Errorf("%d %s", status, stderr)
	}
	issuer.publish(`{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`)
	for _, arguments := range [][]string{site.serveArguments("--check-config"), site.serveArguments()} {
		status, _, stderr := execute(t, append(arguments, issuer.flags()...)...)
		if status != exitUsage || !strings.Contains(stderr, "is private") || strings.Contains(stderr, "c2VjcmV0") {
			t.Errorf("%d %s", status, stderr)
		}
	}
}
