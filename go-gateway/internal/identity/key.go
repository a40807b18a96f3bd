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

	"triptych.dev/gateway/internal/plans"
	"triptych.dev/gateway/internal/store"
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

var keyShape = regexp.MustCompile(fmt.Sprintf(`^%s([0-9a-z]{%d})_[0-9A-Za-z]{%d}$`, keyPrefix, keyIDLength, secretLength))

// newKey makes a key and what is stored of it. A lifetime of 0 has no end.
func newKey(tenant string, now time.Time, lifetime time.Duration, scopes string) (Secret, store.Key) {
	id := randomLetters(keyIDLength, keyIDLetters)
	key := keyPrefix + id + "_" + randomLetters(secretLength, base62)
	now = now.UTC().Truncate(time.Millisecond) // as it is stored
	record := store.Key{ID: id, SHA256: hashKey(key), Tenant: tenant, Scopes: scopes, Created: now}
	if lifetime > 0 {
		record.Expires = now.Add(lifetime)
	}
	return Secret(key), record
}

// keyID returns the id inside a key; false if it has not the shape of a key.
func keyID(key Secret) (string, bool) {
	found := keyShape.FindStringSubmatch(key.Reveal())
	if found == nil {
		return "", false
	}
	return found[1], true
}

// KeyID returns the public id of what names a key: the id, "trip_" and the id, or a whole key.
func KeyID(name string) string {
	if id, ok := keyID(Secret(name)); ok {
		return id
	}
	return strings.TrimPrefix(name, keyPrefix)
}

// CheckKeyIDPart refuses what cannot be the beginning of one.
func CheckKeyIDPart(part string) error {
	if len(part) > keyIDLength || strings.Trim(part, keyIDLetters) != "" {
		return refused("the id of a key is %d of a-z and 0-9", keyIDLength)
	}
	return nil
}

// CheckKeyID refuses what has not the shape of an id. It does not repeat it: it may be a piece of a key.
func CheckKeyID(id string) error {
	if len(id) != keyIDLength || strings.Trim(id, keyIDLetters) != "" {
		return refused("the id of a key is %d of a-z and 0-9, as `gateway keys list` shows it", keyIDLength)
	}
	return nil
}

// matches reports, in constant time, whether a record is of this key, and then whether the key is good at a time.
func matches(record store.Key, key Secret, now time.Time) bool {
	same := subtle.ConstantTimeCompare([]byte(hashKey(key.Reveal())), []byte(record.SHA256)) == 1
	return same && !ended(record, now)
}

// ended reports whether a key is revoked or has expired.
func ended(record store.Key, now time.Time) bool {
	return !record.Revoked.IsZero() || !record.Expires.IsZero() && !now.Before(record.Expires)
}

// CheckTenantName refuses what cannot be a tenant's name.
func CheckTenantName(name string) error {
	if err := plans.CheckName(name, "tenant"); err != nil {
		return RefusedError{err}
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
