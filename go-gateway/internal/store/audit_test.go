package store

import (
	"errors"
	"reflect"
	"testing"
)

func auditOf(t *testing.T, s *Store, before int64, most int) []AuditEntry {
	t.Helper()
	entries, err := s.AuditLog(t.Context(), before, most)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func idsOf(entries []AuditEntry) (ids []int64) {
	for _, entry := range entries {
		ids = append(ids, entry.ID)
	}
	return ids
}

func TestTheAuditLogHasEachActOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		create(t, s, keyOf("aaaaaaaa", "acme"), keyOf("bbbbbbbb", "globex"))
		for range 2 { // the second one changes nothing
			if _, _, err := s.RevokeKey(t.Context(), "bbbbbbbb", created, actOn); err != nil {
				t.Fatal(err)
			}
		}
		refusal := errors.New("no")
		err := s.ReplaceKey(t.Context(), "aaaaaaaa", created, func(Key) (Replacement, error) { return Replacement{}, refusal })
		if !errors.Is(err, refusal) {
			t.Errorf("got %v", err)
		}
		if err := s.CreateKey(t.Context(), keyOf("aaaaaaaa", "acme"), AuditEntry{Act: "failed"}, nil); !errors.Is(err, ErrExists) {
			t.Errorf("got %v", err)
		}
		all := auditOf(t, s, 0, 10)
		if !reflect.DeepEqual(idsOf(all), []int64{3, 2, 1}) {
			t.Fatalf("got %+v", all)
		}
		want := actOn(keyOf("aaaaaaaa", "acme"))
		want.ID = 1
		if !reflect.DeepEqual(all[2], want) {
			t.Errorf("got %+v, want %+v", all[2], want)
		}
		if got := idsOf(auditOf(t, s, 0, 2)); !reflect.DeepEqual(got, []int64{3, 2}) {
			t.Errorf("the first page is %v", got)
		}
		if got := idsOf(auditOf(t, s, 2, 2)); !reflect.DeepEqual(got, []int64{1}) {
			t.Errorf("the page after 2 is %v", got)
		}
	})
}

func TestTheAuditLogKeepsTheNewest(t *testing.T) {
	kept := maxAuditEntries
	maxAuditEntries = 2
	t.Cleanup(func() { maxAuditEntries = kept })
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		create(t, s, keyOf("aaaaaaaa", "acme"), keyOf("bbbbbbbb", "acme"), keyOf("cccccccc", "acme"), keyOf("dddddddd", "acme"))
		if got := idsOf(auditOf(t, s, 0, 10)); !reflect.DeepEqual(got, []int64{4, 3}) {
			t.Errorf("got %v", got)
		}
	})
}

func TestPagesOfKeys(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		create(t, s, keyOf("cc000000", "acme"), keyOf("aa000000", "acme"), keyOf("ab000000", "globex"), keyOf("bb000000", "acme"))
		for _, c := range []struct {
			tenant, prefix, after string
			most                  int
			want                  []string
		}{
			{"", "", "", 10, []string{"aa000000", "ab000000", "bb000000", "cc000000"}},
			{"", "", "ab000000", 1, []string{"bb000000"}},
			{"acme", "", "", 2, []string{"aa000000", "bb000000"}},
			{"acme", "", "bb000000", 2, []string{"cc000000"}},
			{"", "a", "", 10, []string{"aa000000", "ab000000"}},
			{"acme", "a", "", 10, []string{"aa000000"}},
			{"globex", "aa", "", 10, nil},
			{"", "", "cc000000", 10, nil},
		} {
			keys, err := s.KeysPage(t.Context(), c.tenant, c.prefix, c.after, c.most)
			var got []string
			for _, key := range keys {
				got = append(got, key.ID)
			}
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v: got %v, %v", c, got, err)
			}
		}
		if key, err := s.FindKey(t.Context(), "ab000000"); err != nil || key.Tenant != "globex" {
			t.Errorf("got %+v, %v", key, err)
		}
		if _, err := s.FindKey(t.Context(), "zz000000"); !errors.Is(err, ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}
