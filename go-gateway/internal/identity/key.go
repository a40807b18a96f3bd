package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// A key looks like trip_<id>_<secret>. The id is public: it names the key in lists and logs. The prefix lets scanners
// find keys that were committed by mistake.
const (
	keyPrefix    = "trip_"
	keyIDLength  = 8
	secretLength = 43 // of 62 letters: 256 bits
	base62       = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	keyIDLetters = "0123456789abcdefghijklmnopqrstuvwxyz"
)

var (
	keyShape  = regexp.MustCompile(fmt.Sprintf(`^%s([0-9a-z]{%d})_[0-9A-Za-z]{%d}$`, keyPrefix, keyIDLength, secretLength))
	nameShape = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
)

// KeyRecord is what is stored of a key: enough to recognise it, not to use it.
type KeyRecord struct {
	ID      string    `json:"id"`
	SHA256  string    `json:"sha256"` // of the whole key; a fast hash is enough for 256 random bits
	Tenant  string    `json:"tenant"`
	Created time.Time `json:"created"`
	Revoked time.Time `json:"revoked,omitzero"` // zero while the key is good
}

// newKey makes a key and its record.
func newKey(tenant string, now time.Time) (Secret, KeyRecord) {
	id := randomLetters(keyIDLength, keyIDLetters)
	key := keyPrefix + id + "_" + randomLetters(secretLength, base62)
	return Secret(key), KeyRecord{ID: id, SHA256: hashKey(key), Tenant: tenant, Created: now.UTC().Truncate(time.Second)}
}

// keyID returns the id inside a key; false if it has not the shape of a key.
func keyID(key Secret) (string, bool) {
	found := keyShape.FindStringSubmatch(key.Reveal())
	if found == nil {
		return "", false
	}
	return found[1], true
}

// matches reports, in constant time, whether the record is of this key and the key is good.
func (r KeyRecord) matches(key Secret) bool {
	same := subtle.ConstantTimeCompare([]byte(hashKey(key.Reveal())), []byte(r.SHA256)) == 1
	return same && r.Revoked.IsZero()
}

func (r KeyRecord) check() error {
	switch digest, err := hex.DecodeString(r.SHA256); {
	case len(r.ID) != keyIDLength || strings.Trim(r.ID, keyIDLetters) != "":
		return fmt.Errorf("key %q: id must be %d of a-z and 0-9", r.ID, keyIDLength)
	case err != nil || len(digest) != sha256.Size || strings.ToLower(r.SHA256) != r.SHA256:
		return fmt.Errorf("key %q: sha256 must be %d lower-case hexadecimal digits", r.ID, 2*sha256.Size)
	case r.Created.IsZero():
		return fmt.Errorf("key %q: created is missing", r.ID)
	default:
		return checkName(r.Tenant, fmt.Sprintf("key %q: tenant", r.ID))
	}
}

func checkName(name, what string) error {
	if !nameShape.MatchString(name) {
		return fmt.Errorf("%s %q: a name is 1 to 64 of a-z, 0-9, '.', '-' and '_', and begins with a letter or digit", what, name)
	}
	return nil
}

func hashKey(key string) string {
	digest := sha256.Sum256([]byte(key))
	return hex.EncodeToString(digest[:])
}

// randomLetters returns n letters, each one equally likely.
func randomLetters(n int, letters string) string {
	fair := 256 - 256%len(letters) // bytes from here on would favour the first letters
	out := make([]byte, 0, n)
	var block [64]byte
	for len(out) < n {
		_, _ = rand.Read(block[:]) // never fails: documented
		for _, b := range block {
			if int(b) < fair && len(out) < n {
				out = append(out, letters[int(b)%len(letters)])
			}
		}
	}
	return string(out)
}
