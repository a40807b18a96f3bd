package webhook

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/store"
)

// The example of the specification of Standard Webhooks.
func TestASignatureIsThatOfTheSpecification(t *testing.T) {
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	got, err := sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want || err != nil {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestSecretsAreLongAndTheirHintsAreShort(t *testing.T) {
	secret := newSecret()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, secretPrefix))
	if err != nil || len(key) != secretBytes || secret == newSecret() {
		t.Errorf("%d bytes, %v", len(key), err)
	}
	if hint := Hint(secret); len([]rune(hint)) != len(secretPrefix)+1+hintLetters || strings.Contains(hint, "=") {
		t.Errorf("hint %q", hint)
	}
}

// Both secrets sign until the overlap ends.
func TestTheSecretBeforeSignsForAWhile(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	hook := store.Webhook{Secret: newSecret(), OldSecret: newSecret(), OldUntil: now.Add(time.Second)}
	signatures := func(at time.Time) []string {
		header := http.Header{}
		if err := setHeaders(header, hook, "msg_1", []byte("{}"), at); err != nil {
			t.Fatal(err)
		}
		return strings.Fields(header.Get("Webhook-Signature"))
	}
	if both := signatures(now); len(both) != 2 || both[0] == both[1] {
		t.Errorf("got %v", both)
	}
	if one := signatures(hook.OldUntil); len(one) != 1 {
		t.Errorf("got %v", one)
	}
}
