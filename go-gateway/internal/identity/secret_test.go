package identity

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecretNeverShows(t *testing.T) {
	secret := Secret("trip_hunter2")
	holder := struct{ Key Secret }{secret}
	encoded, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "key", secret, "holder", holder)
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "key", secret, "holder", holder)
	shown := log.String() + string(encoded)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10.3s"} {
		shown += fmt.Sprintf(verb, secret) + fmt.Sprintf(verb, holder) + fmt.Sprintf(verb, []Secret{secret})
	}
	if strings.Contains(shown, "hunter2") || strings.Contains(shown, fmt.Sprintf("%x", "hunter2")) {
		t.Error(shown)
	}
	if secret.Reveal() != "trip_hunter2" {
		t.Error("Reveal does not")
	}
}
