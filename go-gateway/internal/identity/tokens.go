package identity

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// maxTokenBytes is several times what tokens with some dozens of claims have.
	maxTokenBytes = 8 << 10
	// tokenPrefix begins the public id of whoever has a token.
	tokenPrefix = "jwt_"
	// tokenIDBytes of a hash are in it: nobody finds two subjects with one id.
	tokenIDBytes = 12
)

// Tokens says which JSON Web Tokens (RFC 7519) are taken in place of an API key, and what their claims mean.
type Tokens struct {
	Issuer, Audience string
	// Algorithms are those that a token may be signed by, whatever it says itself.
	Algorithms []string
	Keys       TokenKeys
	// ClockSkew is by how much the issuer's clock may differ from ours.
	ClockSkew time.Duration
	// TenantClaim has the tenant's name. PlanClaim has the plan of a tenant that is not in the tenants file, ScopesClaim
	// what the token is restricted to; both may be empty.
	TenantClaim, PlanClaim, ScopesClaim string
}

// TokenKeys are the issuer's public keys.
type TokenKeys interface {
	// Key returns the one with an id, if it is for an algorithm.
	Key(id, algorithm string) (crypto.PublicKey, bool)
	// Watch takes changes until ctx ends, and Staleness is for how long they could not be taken.
	Watch(ctx context.Context)
	Staleness(now time.Time) time.Duration
}

// claimed is what a verified token says.
type claimed struct {
	keyID, tenant string
	plan          string // empty: the tenant's own
	scopes        Scopes
}

// tokenReader verifies tokens.
type tokenReader struct {
	Tokens
	parser   *jwt.Parser
	now      func() time.Time
	verified verified
}

func newTokenReader(tokens Tokens, now func() time.Time) *tokenReader {
	return &tokenReader{Tokens: tokens, now: now, parser: jwt.NewParser(
		jwt.WithValidMethods(tokens.Algorithms), jwt.WithIssuer(tokens.Issuer), jwt.WithAudience(tokens.Audience),
		jwt.WithExpirationRequired(), jwt.WithLeeway(tokens.ClockSkew), jwt.WithTimeFunc(now), jwt.WithStrictDecoding(),
	)}
}

// Why a token is refused, for the log: nothing of the token is in it, and whoever sent it is told none of this.
var (
	errTokenShape    = errors.New("it is no token")
	errTokenSize     = fmt.Errorf("the token has more than %d bytes", maxTokenBytes)
	errTokenKey      = errors.New("the token's key is not the issuer's, or for another algorithm")
	errTokenCritical = errors.New("the token wants an extension to be understood")
	errTokenClaim    = errors.New("a claim of the token is missing, or of another type")
	errTokenScopes   = errors.New("the token's scopes cannot be read")
	errTokenTenant   = errors.New("the token's tenant is not in the tenants file, and it names no plan of it")
	errTokenGuests   = fmt.Errorf("there are %d tenants already that are not in the tenants file", maxGuests)
	errToken         = errors.New("the token cannot be verified")
)

// tokenFaults are the library's words for it, which may quote the token, and ours.
var tokenFaults = []struct{ theirs, ours error }{
	{jwt.ErrTokenMalformed, errTokenShape},
	{errTokenKey, errTokenKey},
	{errTokenCritical, errTokenCritical},
	{jwt.ErrTokenSignatureInvalid, errors.New("the token's algorithm or signature is wrong")},
	{jwt.ErrTokenExpired, errors.New("the token has expired")},
	{jwt.ErrTokenNotValidYet, errors.New("the token is not valid yet")},
	{jwt.ErrTokenInvalidIssuer, errors.New("the token is of another issuer")},
	{jwt.ErrTokenInvalidAudience, errors.New("the token is for another audience")},
	{jwt.ErrTokenRequiredClaimMissing, errTokenClaim},
}

// read verifies a token.
func (r *tokenReader) read(token Secret) (claimed, error) {
	if len(token) > maxTokenBytes {
		return claimed{}, errTokenSize
	}
	if said, known := r.verified.find(token, r.now(), r.Keys); known {
		return said, nil
	}
	claims := jwt.MapClaims{}
	good := goodToken{}
	parsed, err := r.parser.ParseWithClaims(token.Reveal(), claims, func(parsed *jwt.Token) (any, error) {
		var err error
		good.id, good.algorithm, good.key, err = r.key(parsed)
		return good.key, err
	})
	if err != nil || !parsed.Valid {
		for _, known := range tokenFaults {
			if errors.Is(err, known.theirs) {
				return claimed{}, known.ours
			}
		}
		return claimed{}, errToken
	}
	said, err := r.understand(claims)
	if err != nil {
		return claimed{}, err
	}
	end, err := claims.GetExpirationTime() // which is there: it is required
	if err != nil {
		return claimed{}, errTokenClaim
	}
	good.claimed, good.end = said, end.Add(r.ClockSkew)
	r.verified.remember(token, good)
	return said, nil
}

// key finds what a token is to be verified by. What it says of its algorithm was found to be allowed.
func (r *tokenReader) key(token *jwt.Token) (id, algorithm string, key crypto.PublicKey, err error) {
	if _, critical := token.Header["crit"]; critical { // RFC 7515, section 4.1.11; the library lets it pass
		return "", "", nil, errTokenCritical
	}
	id, _ = token.Header["kid"].(string)
	key, known := r.Keys.Key(id, token.Method.Alg())
	if !known {
		return "", "", nil, errTokenKey
	}
	return id, token.Method.Alg(), key, nil
}

// understand reads the claims of a good token.
func (r *tokenReader) understand(claims jwt.MapClaims) (claimed, error) {
	subject, _ := claims["sub"].(string)
	tenant, _ := claims[r.TenantClaim].(string)
	if subject == "" || CheckTenantName(tenant) != nil {
		return claimed{}, errTokenClaim
	}
	said := claimed{keyID: subjectID(r.Issuer, subject), tenant: tenant}
	if plan, present := claims[r.PlanClaim]; present && r.PlanClaim != "" {
		if said.plan, _ = plan.(string); said.plan == "" {
			return claimed{}, errTokenClaim
		}
	}
	if r.ScopesClaim == "" {
		return said, nil
	}
	scopes, err := scopesOf(claims[r.ScopesClaim])
	said.scopes = scopes
	return said, err
}

// subjectID is the public id of a subject: the same for each of its tokens.
func subjectID(issuer, subject string) string {
	digest := sha256.Sum256([]byte(issuer + "\x00" + subject))
	return tokenPrefix + hex.EncodeToString(digest[:tokenIDBytes])
}

var subjectShape = regexp.MustCompile(fmt.Sprintf("^%s[0-9a-f]{%d}$", tokenPrefix, 2*tokenIDBytes))

// IsSubjectID reports whether an id has the shape of a subject's, which no key's has.
func IsSubjectID(id string) bool { return subjectShape.MatchString(id) }

// scopesOf reads a claim of scopes: text with spaces in it, as OAuth writes it (RFC 8693, section 4.2), or a list. Words
// without a colon are others' ("openid"), and pass; what looks like ours and is not is a mistake that must not widen what
// the token is good for.
func scopesOf(claim any) (Scopes, error) {
	var written []string
	switch claim := claim.(type) {
	case string:
		written = strings.Fields(claim)
	case []any:
		for _, one := range claim {
			scope, isText := one.(string)
			if !isText {
				return Scopes{}, errTokenScopes
			}
			written = append(written, scope)
		}
	default:
		return Scopes{}, errTokenClaim
	}
	var ours []string
	for _, scope := range written {
		if strings.Contains(scope, ":") {
			ours = append(ours, scope)
		}
	}
	scopes, err := ParseScopes(ours)
	if err != nil {
		return Scopes{}, errTokenScopes
	}
	return scopes, nil
}
