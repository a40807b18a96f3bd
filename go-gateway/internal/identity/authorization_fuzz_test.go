package identity

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/store"
)

// oneKey is a store of one key.
type oneKey struct{ record store.Key }

func (oneKey) Place() string                              { return "memory" }
func (oneKey) KeysVersion(context.Context) (int64, error) { return 1, nil }
func (k oneKey) Keys(context.Context, string) ([]store.Key, error) {
	return []store.Key{k.record}, nil
}

// FuzzAuthorization holds that nothing but the key is taken for it, and that what is refused is the client's fault.
func FuzzAuthorization(f *testing.F) {
	path := filepath.Join(f.TempDir(), "tenants.yaml")
	if err := os.WriteFile(path, []byte(plansYAML), 0o600); err != nil {
		f.Fatal(err)
	}
	key, record := newKey("acme", time.Now(), 0, "")
	directory, err := Open(f.Context(), oneKey{record}, path, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		"", "Bearer", "Bearer ", "bearer  " + key.Reveal(), "Bearer " + key.Reveal() + " ", "Bearer " + key.Reveal() + "a", "Basic " + key.Reveal(),
		"Bearer " + keyPrefix + strings.Repeat("_", 100), "Bearer " + key.Reveal()[:len(key.Reveal())-1], "Bearer \xff",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		who, err := directory.Authenticate(header)
		if err != nil {
			if reason := fault.Of(err).Reason; reason != fault.MissingAPIKey && reason != fault.InvalidAPIKey || who.Tenant != "" {
				t.Fatalf("%q: %+v, %v", header, who, err)
			}
			return
		}
		scheme, credentials, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") || strings.TrimSpace(credentials) != key.Reveal() || who.Tenant != "acme" {
			t.Fatalf("%q is taken for the key", header)
		}
	})
}
