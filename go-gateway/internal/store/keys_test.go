package store

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

var created = time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)

func keyOf(id, tenant string) Key {
	return Key{ID: id, Tenant: tenant, SHA256: strings.Repeat("0", 64), Created: created}
}

// actOn is what the audit log has of a test's act.
func actOn(key Key) AuditEntry {
	return AuditEntry{At: created, By: "a test", Act: "tested", Tenant: key.Tenant, Key: key.ID, Details: []string{"a=b c", "d=e"}}
}

func create(t *testing.T, s *Store, keys ...Key) {
	t.Helper()
	for _, key := range keys {
		if err := s.CreateKey(t.Context(), key, actOn(key), nil); err != nil {
			t.Fatal(err)
		}
	}
}

func list(t *testing.T, s *Store, tenant string) []Key {
	t.Helper()
	keys, err := s.Keys(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// changes returns by how much the counter moves.
func changes(t *testing.T, s *Store, act func()) int64 {
	t.Helper()
	before, err := s.KeysVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	act()
	after, err := s.KeysVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return after - before
}

func TestKeysAreKept(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		first, second, third := keyOf("bbbbbbbb", "acme"), keyOf("aaaaaaaa", "acme"), keyOf("cccccccc", "globex")
		first.Created = created.Add(-time.Hour)
		first.Expires = created.Add(time.Hour)
		second.Scopes = "endpoint:/v1/models model:a class:batch"
		create(t, s, third, second, first)
		s.Close()
		s = open(t, options, Reader)
		if got, want := list(t, s, ""), []Key{first, second, third}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if got := list(t, s, "globex"); !reflect.DeepEqual(got, []Key{third}) {
			t.Errorf("got %+v", got)
		}
		if got := list(t, s, "nobody"); len(got) != 0 {
			t.Errorf("got %+v", got)
		}
	})
}

func TestATakenIDIsRefused(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		create(t, s, keyOf("aaaaaaaa", "acme"))
		moved := changes(t, s, func() {
			if err := s.CreateKey(t.Context(), keyOf("aaaaaaaa", "globex"), AuditEntry{}, nil); !errors.Is(err, ErrExists) {
				t.Errorf("got %v", err)
			}
		})
		if keys := list(t, s, ""); moved != 0 || len(keys) != 1 || keys[0].Tenant != "acme" {
			t.Errorf("got %+v, and the counter moved by %d", keys, moved)
		}
	})
}

func TestRevoking(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		create(t, s, keyOf("aaaaaaaa", "acme"), keyOf("bbbbbbbb", "acme"))
		at := created.Add(time.Hour)
		moved := changes(t, s, func() {
			if key, changed, err := s.RevokeKey(t.Context(), "aaaaaaaa", at, actOn); err != nil || !changed || key.Tenant != "acme" {
				t.Errorf("got %+v, %v, %v", key, changed, err)
			}
		})
		if moved != 1 {
			t.Errorf("the counter moved by %d", moved)
		}
		if _, changed, err := s.RevokeKey(t.Context(), "aaaaaaaa", at.Add(time.Hour), actOn); err != nil || changed {
			t.Errorf("again: %v, %v", changed, err)
		}
		if keys := list(t, s, ""); !keys[0].Revoked.Equal(at) || !keys[1].Revoked.IsZero() {
			t.Errorf("got %+v", keys)
		}
		if _, _, err := s.RevokeKey(t.Context(), "cccccccc", at, actOn); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "cccccccc") {
			t.Errorf("got %v", err)
		}
	})
}

func TestReplacing(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		sooner := keyOf("bbbbbbbb", "acme")
		sooner.Expires = created.Add(time.Minute)
		create(t, s, keyOf("aaaaaaaa", "acme"), sooner)
		end := created.Add(time.Hour)
		for old, fresh := range map[string]string{"aaaaaaaa": "dddddddd", "bbbbbbbb": "eeeeeeee"} {
			err := s.ReplaceKey(t.Context(), old, end, func(found Key) (Replacement, error) {
				return Replacement{Key: keyOf(fresh, found.Tenant), Act: actOn(found)}, nil
			})
			if err != nil {
				t.Error(err)
			}
		}
		keys := list(t, s, "acme")
		if len(keys) != 4 || !keys[0].Expires.Equal(end) || keys[0].ReplacedBy != "dddddddd" || !keys[1].Expires.Equal(sooner.Expires) {
			t.Errorf("got %+v", keys)
		}
		// The fence: one that was replaced meanwhile is not replaced again, whatever the caller thought.
		moved := changes(t, s, func() {
			err := s.ReplaceKey(t.Context(), "aaaaaaaa", end, func(Key) (Replacement, error) { return Replacement{Key: keyOf("ffffffff", "acme")}, nil })
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("got %v", err)
			}
			refusal := errors.New("no")
			if err := s.ReplaceKey(t.Context(), "dddddddd", end, func(Key) (Replacement, error) { return Replacement{}, refusal }); !errors.Is(err, refusal) {
				t.Errorf("got %v", err)
			}
			if err := s.ReplaceKey(t.Context(), "zzzzzzzz", end, nil); !errors.Is(err, ErrNotFound) {
				t.Errorf("got %v", err)
			}
		})
		if keys := list(t, s, ""); len(keys) != 4 || moved != 0 {
			t.Errorf("got %+v, and the counter moved by %d", keys, moved)
		}
	})
}

// Two stacks that start at once on one database must not show two first keys of a tenant.
func TestFirstKeysAreMadeOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		create(t, open(t, options, Command), keyOf("aaaaaaaa", "acme"))
		var group sync.WaitGroup
		made := make([][]Key, 8)
		for i := range made {
			group.Go(func() {
				s, err := Open(t.Context(), options, Command)
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Close()
				made[i], err = s.CreateFirstKeys(t.Context(), []Key{
					keyOf(fmt.Sprintf("acme%04d", i), "acme"), keyOf(fmt.Sprintf("glob%04d", i), "globex"),
				}, actOn)
				if err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		total := 0
		for _, keys := range made {
			total += len(keys)
		}
		if keys := list(t, open(t, options, Reader), ""); total != 1 || len(keys) != 2 {
			t.Errorf("%d first keys of globex were shown, and there are %+v", total, keys)
		}
	})
}

func TestTheFenceOfAnUpdate(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		if err := one(s.w.Exec(`UPDATE api_key SET revoked_at = 0 WHERE id = 'aaaaaaaa'`)); !errors.Is(err, ErrNotFound) {
			t.Errorf("no row: %v", err)
		}
		execute(t, s, `DELETE FROM change_counter`)
		if err := s.CreateKey(t.Context(), keyOf("aaaaaaaa", "acme"), AuditEntry{}, nil); err == nil {
			t.Error("a key was made of which no gateway would hear")
		}
	})
}
