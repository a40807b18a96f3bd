package identity

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/store"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// keysFixture is an empty store, and a clock.
type keysFixture struct {
	*testing.T
	store *store.Store
	keys  *Keys
	audit *bytes.Buffer
	now   time.Time
}

func newKeys(t *testing.T) *keysFixture {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Data: filepath.Join(t.TempDir(), "data")}, store.Gateway)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	f := &keysFixture{T: t, store: s, audit: &bytes.Buffer{}, now: now}
	f.keys = NewKeys(s, "a test", func() time.Time { return f.now }, slog.New(slog.NewTextHandler(f.audit, nil)))
	return f
}

func (f *keysFixture) create(tenant string) Secret {
	f.Helper()
	key, err := f.keys.Create(f.Context(), tenant, 0)
	if err != nil {
		f.Fatal(err)
	}
	return key
}

func (f *keysFixture) revoke(key Secret) {
	f.Helper()
	id, _ := keyID(key)
	if err := f.keys.Revoke(f.Context(), id); err != nil {
		f.Fatal(err)
	}
}

func (f *keysFixture) record(key Secret) store.Key {
	f.Helper()
	records, err := f.store.Keys(f.Context(), "")
	if err != nil {
		f.Fatal(err)
	}
	id, _ := keyID(key)
	i := slices.IndexFunc(records, func(record store.Key) bool { return record.ID == id })
	if i < 0 {
		f.Fatalf("there is no key %q", id)
	}
	return records[i]
}

// lines returns the audit log, which must not hold any of the keys, nor their hashes.
func (f *keysFixture) lines(keys ...Secret) []string {
	f.Helper()
	log := f.audit.String()
	for _, key := range keys {
		secret := key.Reveal()[len("trip_12345678_"):]
		if strings.Contains(log, secret) || strings.Contains(log, hashKey(key.Reveal())) {
			f.Errorf("the audit log holds a key or its hash:\n%s", log)
		}
	}
	return slices.Collect(strings.Lines(log))
}

func TestCreateStoresAHashOnly(t *testing.T) {
	f := newKeys(t)
	key := f.create("acme")
	if !keyShape.MatchString(key.Reveal()) {
		t.Errorf("the key %q has another shape", key.Reveal())
	}
	record := f.record(key)
	if record.Tenant != "acme" || !record.Created.Equal(now) || !record.Expires.IsZero() || !matches(record, key, now) ||
		strings.Contains(record.SHA256, key.Reveal()[len("trip_12345678_"):]) {
		t.Errorf("got %+v", record)
	}
	id, _ := keyID(key)
	if lines := f.lines(key); len(lines) != 1 || !strings.Contains(lines[0], `act="key created" tenant=acme key=`+id) {
		t.Errorf("the audit log is %q", lines)
	}
}

func TestKeysDiffer(t *testing.T) {
	f := newKeys(t)
	seen := map[Secret]bool{}
	for range 100 {
		key, _ := newKey("acme", now, 0, "")
		seen[key] = true
	}
	if len(seen) != 100 {
		t.Errorf("100 keys, %d of them different", len(seen))
	}
	a, b := f.create("acme"), f.create("acme")
	if !matches(f.record(a), a, now) || !matches(f.record(b), b, now) || matches(f.record(a), b, now) {
		t.Error("keys match others' records")
	}
}

func TestCreateRefusesBadNames(t *testing.T) {
	f := newKeys(t)
	for _, name := range []string{"", "Acme", "-acme", "a b", "a/b", strings.Repeat("a", 65), "acme\n"} {
		if key, err := f.keys.Create(t.Context(), name, 0); err == nil {
			t.Errorf("%q got the key %q", name, key.Reveal())
		}
	}
	if lines := f.lines(); len(lines) != 0 {
		t.Errorf("the audit log tells of what was not done: %q", lines)
	}
}

func TestRevoke(t *testing.T) {
	f := newKeys(t)
	key, other := f.create("acme"), f.create("acme")
	f.revoke(key)
	f.now = now.Add(time.Hour)
	f.revoke(key)
	if record := f.record(key); !record.Revoked.Equal(now) || matches(record, key, now) || !matches(f.record(other), other, now) {
		t.Errorf("got %+v", record)
	}
	if lines := f.lines(key, other); len(lines) != 3 || !strings.Contains(lines[2], `act="key revoked" tenant=acme`) {
		t.Errorf("the audit log is %q", lines)
	}
	if err := f.keys.Revoke(t.Context(), "nobodys1"); err == nil || !strings.Contains(err.Error(), "nobodys1") {
		t.Errorf("an unknown id: %v", err)
	}
	// Whoever takes a key, or a piece of it, for the id finds it in no error.
	for _, slip := range []string{other.Reveal(), other.Reveal()[14:], other.Reveal()[20:28] + "X", ""} {
		if err := f.keys.Revoke(t.Context(), slip); err == nil || slip != "" && strings.Contains(err.Error(), slip) {
			t.Errorf("%q: %v", slip, err)
		}
	}
}

func TestAnIDMayBeWrittenAsInAKey(t *testing.T) {
	key, record := newKey("acme", now, 0, "")
	for _, name := range []string{record.ID, "trip_" + record.ID, key.Reveal()} {
		if got := KeyID(name); got != record.ID {
			t.Errorf("%q gave %q", name, got)
		}
	}
}

func TestRotate(t *testing.T) {
	f := newKeys(t)
	old := f.create("acme")
	id, _ := keyID(old)
	f.now = now.Add(time.Hour)
	fresh, err := f.keys.Rotate(t.Context(), id, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	end := f.now.Add(24 * time.Hour)
	if record := f.record(old); !matches(record, old, end.Add(-time.Millisecond)) || matches(record, old, end) {
		t.Errorf("the old key: %+v", record)
	}
	if record := f.record(fresh); record.Tenant != "acme" || !record.Expires.IsZero() || !matches(record, fresh, end) {
		t.Errorf("the new key: %+v", record)
	}
	freshID, _ := keyID(fresh)
	if lines := f.lines(old, fresh); len(lines) != 2 || !regexp.MustCompile(`act="key rotated" tenant=acme key=`+freshID+` replaces=`+id+` overlap=24h`).MatchString(lines[1]) {
		t.Errorf("the audit log is %q", lines)
	}
	for name, want := range map[string]string{id: freshID, "nobodys1": "nobodys1", "short": "keys list"} {
		if _, err := f.keys.Rotate(t.Context(), name, 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := f.keys.Rotate(t.Context(), freshID, 0); err != nil || matches(f.record(fresh), fresh, f.now) {
		t.Errorf("without an overlap the old key ends at once: %v", err)
	}
}

func TestRotateKeepsALifetime(t *testing.T) {
	f := newKeys(t)
	old, err := f.keys.Create(t.Context(), "acme", 48*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := keyID(old)
	f.now = now.Add(47 * time.Hour)
	fresh, err := f.keys.Rotate(t.Context(), id, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.record(old).Expires; !got.Equal(now.Add(48 * time.Hour)) {
		t.Errorf("the old key's life was prolonged to %v", got)
	}
	if got := f.record(fresh).Expires; !got.Equal(f.now.Add(48 * time.Hour)) {
		t.Errorf("the new key ends at %v", got)
	}
}

func TestRotateRefusesWhatHasEnded(t *testing.T) {
	f := newKeys(t)
	revoked := f.create("acme")
	f.revoke(revoked)
	expired, err := f.keys.Create(t.Context(), "acme", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	f.now = now.Add(time.Hour)
	for key, want := range map[Secret]string{revoked: "is revoked", expired: "has expired"} {
		id, _ := keyID(key)
		if _, err := f.keys.Rotate(t.Context(), id, time.Hour); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "keys create --tenant acme") {
			t.Errorf("got %v", err)
		}
	}
}

func TestCreateFirst(t *testing.T) {
	f := newKeys(t)
	f.revoke(f.create("acme"))
	keys, err := f.keys.CreateFirst(t.Context(), []string{"acme", "globex", "tiny"})
	if err != nil || len(keys) != 2 || !matches(f.record(keys["globex"]), keys["globex"], now) {
		t.Errorf("got %d keys, %v", len(keys), err)
	}
	if lines := f.lines(keys["globex"], keys["tiny"]); len(lines) != 4 {
		t.Errorf("the audit log is %q", lines)
	}
	if keys, err := f.keys.CreateFirst(t.Context(), []string{"acme", "globex"}); err != nil || len(keys) != 0 {
		t.Errorf("again %d keys, %v", len(keys), err)
	}
}

func TestATakenIDIsTriedAgain(t *testing.T) {
	f := newKeys(t)
	tries := 0
	create := func(failures int) error {
		_, _, err := f.keys.try(func(time.Time) (Secret, store.Key, error) {
			if tries++; tries <= failures {
				return "", store.Key{}, store.ErrExists
			}
			return "key", store.Key{}, nil
		})
		return err
	}
	if err := create(1); err != nil || tries != 2 {
		t.Errorf("%d tries, %v", tries, err)
	}
	if tries = 0; create(10) == nil || tries != mostTries {
		t.Errorf("%d tries", tries)
	}
}
