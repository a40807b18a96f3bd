package webhook

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"triptych.dev/gateway/internal/store"
)

const (
	secretPrefix = "whsec_"
	secretBytes  = 32
	hintLetters  = 4
)

// newSecret returns a secret by which deliveries are signed, as Standard Webhooks writes them.
func newSecret() string {
	var key [secretBytes]byte
	rand.Read(key[:]) // never fails
	return secretPrefix + base64.StdEncoding.EncodeToString(key[:])
}

// Hint is as much of a secret as tells it from another one.
func Hint(secret string) string {
	secret = strings.TrimRight(secret, "=")
	return secretPrefix + "…" + secret[max(0, len(secret)-hintLetters):]
}

// sign is the signature of a message by a secret.
func sign(secret, id, timestamp string, body []byte) (string, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, secretPrefix))
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)), nil
}

// setHeaders signs a message by the webhook's secret, and beside it by the one before while that is good too.
func setHeaders(header http.Header, hook store.Webhook, id string, body []byte, now time.Time) error {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	signatures, err := sign(hook.Secret, id, timestamp, body)
	if err != nil {
		return err
	}
	if hook.OldSecret != "" && now.Before(hook.OldUntil) {
		old, err := sign(hook.OldSecret, id, timestamp, body)
		if err != nil {
			return err
		}
		signatures += " " + old
	}
	header.Set("Webhook-Id", id)
	header.Set("Webhook-Timestamp", timestamp)
	header.Set("Webhook-Signature", signatures)
	return nil
}
