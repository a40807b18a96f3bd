package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/quota"
)

const (
	testIssuer   = "https://issuer.example"
	testAudience = "https://gateway.example"
)

// issuerKeys are private keys of an issuer, by their ids, and those that it publishes.
type issuerKeys struct {
	private map[string]crypto.Signer
	removed string // the id of one that is published no more
}

var methods = map[string]jwt.SigningMethod{"rs": jwt.SigningMethodRS256, "es": jwt.SigningMethodES256, "ed": jwt.SigningMethodEdDSA}

// theIssuersKeys are made once: it takes long.
var theIssuersKeys = sync.OnceValues(func() (map[string]crypto.Signer, error) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	return map[string]crypto.Signer{"rs": rsaKey, "es": ecKey, "ed": edKey}, err
})

func newIssuer(t testing.TB) *issuerKeys {
	t.Helper()
	private, err := theIssuersKeys()
	if err != nil {
		t.Fatal(err)
	}
	return &issuerKeys{private: private}
}

func (k *issuerKeys) Key(id, algorithm string) (crypto.PublicKey, bool) {
	private, known := k.private[id]
	if !known || id == k.removed || methods[id].Alg() != algorithm {
		return nil, false
	}
	return private.Public(), true
}

func (*issuerKeys) Watch(ctx context.Context)             { <-ctx.Done() }
func (*issuerKeys) Staleness(now time.Time) time.Duration { return 0 }

// sign makes a token with the key of an id, for whom it is good until something is changed.
func (k *issuerKeys) sign(id string, changes jwt.MapClaims, headers ...string) string {
	claims := jwt.MapClaims{"iss": testIssuer, "aud": testAudience, "sub": "someone", "tenant": "acme", "exp": now.Add(time.Hour).Unix()}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	token := jwt.NewWithClaims(methods[id], claims)
	token.Header["kid"] = id
	for i := 0; i < len(headers); i += 2 {
		token.Header[headers[i]] = headers[i+1]
	}
	signed, err := token.SignedString(k.private[id])
	if err != nil {
		panic(err)
	}
	return signed
}

func openWithTokens(t *testing.T, change func(*Tokens)) (*fixture, *issuerKeys) {
	t.Helper()
	f, _ := openFixture(t)
	issuer := newIssuer(t)
	tokens := Tokens{Issuer: testIssuer, Audience: testAudience, Algorithms: []string{"RS256", "ES256", "EdDSA"}, Keys: issuer,
		ClockSkew: 30 * time.Second, TenantClaim: "tenant"}
	if change != nil {
		change(&tokens)
	}
	f.directory.AcceptTokens(tokens)
	return f, issuer
}

func TestATokenIsGoodInPlaceOfAKey(t *testing.T) {
	f, issuer := openWithTokens(t, nil)
	for id := range methods {
		principal, err := f.directory.Authenticate("Bearer " + issuer.sign(id, nil))
		if err != nil || principal.Tenant != "acme" || principal.Plan.Name != "p" || principal.Scopes.String() != "" {
			t.Errorf("%s: got %+v, %v", id, principal, err)
		}
		if want := subjectID(testIssuer, "someone"); principal.KeyID != want || !regexp.MustCompile(`^jwt_[0-9a-f]{24}$`).MatchString(want) {
			t.Errorf("the id is %q", principal.KeyID)
		}
	}
	if subjectID("a", "b") == subjectID("a", "c") || subjectID("a", "b") == subjectID("ab", "") {
		t.Error("two subjects have one id")
	}
	if got := f.outcome("Bearer " + f.create("acme").Reveal()); got != "INVALID_API_KEY" {
		t.Errorf("before the refresh a key: %s", got)
	}
	key := f.create("globex")
	f.refresh()
	if got := f.outcome("Bearer " + key.Reveal()); got != "globex" {
		t.Errorf("a key beside tokens: %s", got)
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	f, issuer := openWithTokens(t, func(tokens *Tokens) { tokens.PlanClaim, tokens.ScopesClaim = "plan", "scope" })
	good := jwt.MapClaims{"scope": ""}
	with := func(name string, value any) string {
		claims := maps.Clone(good)
		claims[name] = value
		return issuer.sign("ed", claims)
	}
	token := issuer.sign("ed", good)
	if got := f.outcome("Bearer " + token); got != "acme" {
		t.Fatalf("a good one: %s", got)
	}
	parts := strings.Split(token, ".")
	public, err := x509.MarshalPKIXPublicKey(issuer.private["rs"].Public())
	if err != nil {
		t.Fatal(err)
	}
	symmetric := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iss": testIssuer, "aud": testAudience, "sub": "a", "tenant": "acme", "scope": "", "exp": now.Add(time.Hour).Unix()})
	symmetric.Header["kid"] = "rs"
	confused, err := symmetric.SignedString(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
	if err != nil {
		t.Fatal(err)
	}
	unsigned := jwt.NewWithClaims(jwt.SigningMethodNone, symmetric.Claims)
	unsigned.Header["kid"] = "ed"
	none, err := unsigned.SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	longer := jwt.NewWithClaims(jwt.SigningMethodRS512, symmetric.Claims)
	longer.Header["kid"] = "rs"
	rs512, err := longer.SignedString(issuer.private["rs"])
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forged := (&issuerKeys{private: map[string]crypto.Signer{"ed": stranger}}).sign("ed", good)
	for what, c := range map[string]struct{ token, why string }{
		"expired":              {with("exp", now.Add(-30*time.Second).Unix()), "expired"},
		"without an end":       {with("exp", nil), "missing"},
		"an end that is text":  {with("exp", "tomorrow"), "cannot be verified"},
		"not yet good":         {with("nbf", now.Add(31*time.Second).Unix()), "not valid yet"},
		"another issuer":       {with("iss", testIssuer+"/"), "issuer"},
		"no issuer":            {with("iss", nil), "missing"},
		"another audience":     {with("aud", []string{"a", "b"}), "audience"},
		"no audience":          {with("aud", nil), "missing"},
		"no subject":           {with("sub", nil), "claim"},
		"a subject of another": {with("sub", 5), "claim"},
		"no tenant":            {with("tenant", nil), "claim"},
		"a tenant that is not": {with("tenant", "nobody"), "no plan"},
		"a name that is none":  {with("tenant", "Acme"), "claim"},
		"several tenants":      {with("tenant", []string{"acme"}), "claim"},
		"a plan of numbers":    {with("plan", 5), "claim"},
		"no scopes":            {with("scope", nil), "claim"},
		"misspelt scopes":      {with("scope", "models:a openid"), "scopes"},
		"scopes of numbers":    {with("scope", []any{5}), "scopes"},
		"symmetric":            {confused, "algorithm"},
		"unsigned":             {none, "algorithm"},
		"another algorithm":    {rs512, "algorithm"},
		"a stranger's":         {forged, "signature"},
		"another key's":        {issuer.sign("ed", good, "kid", "es"), "key"},
		"an unknown key's":     {issuer.sign("ed", good, "kid", "unknown"), "key"},
		"no key's":             {issuer.sign("ed", good, "kid", ""), "key"},
		"critical":             {issuer.sign("ed", good, "crit", "b64"), "extension"},
		"a changed payload":    {parts[0] + "." + strings.Split(with("tenant", "globex"), ".")[1] + "." + parts[2], "signature"},
		"without a signature":  {parts[0] + "." + parts[1] + ".", "signature"},
		"cut off":              {token[:len(token)-4], "token"},
		"two parts":            {parts[0] + "." + parts[1], "no token"},
		"four parts":           {token + ".a", "no token"},
		"dots":                 {"..", "no token"},
		"garbage":              {"eyJ.eyJ.x", "no token"},
		"padded":               {parts[0] + "=." + parts[1] + "." + parts[2], "no token"},
		"too long":             {with("more", strings.Repeat("a", maxTokenBytes)), "more than 8192 bytes"},
	} {
		_, err := f.directory.Authenticate("Bearer " + c.token)
		refusal := fault.Of(err)
		if err == nil || refusal.Reason != fault.InvalidAPIKey || refusal.Message != "The API key or token is unknown, malformed, expired or revoked." {
			t.Errorf("%s: got %v", what, err)
			continue
		}
		if !strings.Contains(refusal.Cause.Error(), c.why) {
			t.Errorf("%s: the log says %q", what, refusal.Cause)
		}
		for _, part := range strings.Split(c.token, ".") {
			if len(part) > 3 && strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error holds a piece of the token: %v", what, err)
			}
		}
	}
	for what, token := range map[string]string{
		"an end within the skew": with("exp", now.Add(-29*time.Second).Unix()), "a start within it": with("nbf", now.Add(29*time.Second).Unix()),
		"one of several audiences": with("aud", []string{"a", testAudience}), "others' scopes": with("scope", "openid profile"),
	} {
		if got := f.outcome("Bearer " + token); got != "acme" {
			t.Errorf("%s: got %s", what, got)
		}
	}
}

func TestARemovedKeySignsNoMore(t *testing.T) {
	f, issuer := openWithTokens(t, nil)
	token := issuer.sign("es", nil)
	if got := f.outcome("Bearer " + token); got != "acme" {
		t.Fatalf("got %s", got)
	}
	issuer.removed = "es"
	if got := f.outcome("Bearer " + token); got != "INVALID_API_KEY" {
		t.Errorf("got %s", got)
	}
}

func TestARememberedTokenEndsWithItsTimeAndItsKey(t *testing.T) {
	f, issuer := openWithTokens(t, nil)
	token := "Bearer " + issuer.sign("ed", nil)
	for _, c := range []struct {
		what   string
		change func()
		want   string
	}{
		{"at first", func() {}, "acme"},
		{"again", func() {}, "acme"},
		{"before its end", func() { f.now = now.Add(time.Hour + 30*time.Second - 1) }, "acme"},
		{"at its end", func() { f.now = now.Add(time.Hour + 30*time.Second) }, "INVALID_API_KEY"},
		{"in its time", func() { f.now = now }, "acme"},
		{"another key of the same id", func() {
			_, other, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			issuer.private = map[string]crypto.Signer{"ed": other}
		}, "INVALID_API_KEY"},
		{"a tenant that is gone", func() {
			issuer.private, _ = theIssuersKeys()
			writeFile(t, f.tenants, strings.Replace(plansYAML, "acme", "another", 1))
			f.refresh()
		}, "INVALID_API_KEY"},
	} {
		c.change()
		if got := f.outcome(token); got != c.want {
			t.Errorf("%s: got %s, want %s", c.what, got, c.want)
		}
	}
}

func TestRememberedTokensAreBounded(t *testing.T) {
	issuer := newIssuer(t)
	var v verified
	key := issuer.private["ed"].Public()
	good := goodToken{claimed: claimed{tenant: "acme"}, end: now.Add(time.Hour), id: "ed", algorithm: "EdDSA", key: key}
	v.remember("in use", good)
	for i := range 3 * maxVerified {
		v.remember(Secret(fmt.Sprint(i)), good)
		if said, known := v.find("in use", now, issuer); !known || said.tenant != "acme" {
			t.Fatalf("after %d others it is forgotten", i)
		}
	}
	if _, known := v.find("0", now, issuer); known || len(v.fresh) > maxVerified || len(v.old) > maxVerified {
		t.Errorf("%d and %d are remembered", len(v.fresh), len(v.old))
	}
}

func TestClaimsSayTenantPlanAndScopes(t *testing.T) {
	f, issuer := openWithTokens(t, func(tokens *Tokens) {
		tokens.TenantClaim, tokens.PlanClaim, tokens.ScopesClaim = "https://gateway.example/org", "plan", "scopes"
	})
	writeFile(t, f.tenants, "plans: {p: {requests_per_minute: 60}, q: {requests_per_minute: 7}}\ntenants: {acme: {plan: p}}\n")
	f.refresh()
	for _, c := range []struct {
		tenant, plan string
		scopes       any
		want         string // plan and scopes
	}{
		{"acme", "", []string{"class:batch"}, "p class:batch"},
		{"acme", "q", "model:m endpoint:/v1/models", "p endpoint:/v1/models model:m"}, // the file has the last word
		{"guest", "q", "openid model:m", "q model:m"},
		{"guest", "none", "", "INVALID_API_KEY"},
		{"guest", "", "", "INVALID_API_KEY"},
	} {
		claims := jwt.MapClaims{"https://gateway.example/org": c.tenant, "scopes": c.scopes}
		if c.plan != "" {
			claims["plan"] = c.plan
		}
		principal, err := f.directory.Authenticate("Bearer " + issuer.sign("ed", claims))
		got := principal.Plan.Name + " " + principal.Scopes.String()
		if err != nil {
			got = string(fault.Of(err).Reason)
		} else if principal.Tenant != c.tenant || (principal.Scopes.Class == quota.Batch) != strings.Contains(c.want, "batch") {
			t.Errorf("got %+v", principal)
		}
		if got != c.want {
			t.Errorf("%+v: got %q", c, got)
		}
	}
}

func TestGuestsAreBounded(t *testing.T) {
	var g guests
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range maxGuests {
				g.admit(fmt.Sprint(i%2, j), "plan")
			}
		})
	}
	all.Wait()
	if len(g.plans) != maxGuests || g.admit("one more", "plan") {
		t.Errorf("%d guests", len(g.plans))
	}
	for name := range maps.Clone(g.plans) {
		if plan, _ := g.plan(name); plan != "plan" || !g.admit(name, "other") {
			t.Errorf("one that was admitted, with the plan %q, is refused", plan)
		}
		if plan, admitted := g.plan(name); !admitted || plan != "other" {
			t.Errorf("its latest plan is %q", plan)
		}
	}
}

func FuzzToken(f *testing.F) {
	issuer := newIssuer(f)
	reader := newTokenReader(Tokens{Issuer: testIssuer, Audience: testAudience, Algorithms: []string{"RS256", "ES256", "EdDSA"},
		Keys: issuer, TenantClaim: "tenant", PlanClaim: "plan", ScopesClaim: "scope"}, func() time.Time { return now })
	genuine := map[string]bool{}
	for id := range methods {
		token := issuer.sign(id, jwt.MapClaims{"scope": "model:a"})
		genuine[token] = true
		f.Add(token)
	}
	f.Add("e30.e30.")
	f.Add("bnVsbA.bnVsbA.bnVsbA")
	f.Fuzz(func(t *testing.T, token string) {
		said, err := reader.read(Secret(token))
		// But for ECDSA, of whose signatures anybody can make another one of the same text.
		if err == nil && !genuine[token] && !strings.HasPrefix(token, "eyJhbGciOiJFUzI1NiI") {
			t.Errorf("%q is taken: %+v", token, said)
		}
		if err != nil && len(token) > 8 && strings.Contains(err.Error(), token) {
			t.Errorf("the error holds the token: %v", err)
		}
	})
}

func BenchmarkToken(b *testing.B) {
	issuer := newIssuer(b)
	for id := range methods {
		token := Secret(issuer.sign(id, nil))
		for what, remembered := range map[string]bool{"verified": false, "remembered": true} {
			b.Run(id+"/"+what, func(b *testing.B) {
				reader := newTokenReader(Tokens{Issuer: testIssuer, Audience: testAudience, Algorithms: []string{"RS256", "ES256", "EdDSA"},
					Keys: issuer, TenantClaim: "tenant"}, func() time.Time { return now })
				for b.Loop() {
					if _, err := reader.read(token); err != nil {
						b.Fatal(err)
					}
					if !remembered {
						reader.verified.fresh = nil
					}
				}
			})
		}
	}
}
