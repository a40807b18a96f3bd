package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"triptych.dev/gateway/internal/store"
)

// copyStore is a process that copies, and hangs where it is told to, until it is killed.
func copyStore(told task) error {
	fmt.Println("open")
	return store.CopyAndTell(context.Background(), told.Store, told.CopyTo, func(done int64) {
		if done == told.HangAt {
			fmt.Println("hangs")
			select {}
		}
	})
}

// TestACopyThatIsKilled leaves an empty database, or a whole copy, and a source to go on with; and the next copy ends it.
func TestACopyThatIsKilled(t *testing.T) {
	const rows = 5001
	store.Everywhere(t, func(t *testing.T, to store.Options) {
		if !to.Postgres() {
			return // it is what is copied to
		}
		from := store.Options{Data: filepath.Join(t.TempDir(), "data")}
		source := openStore(t, from, store.Command)
		store.FillJobs(t, source, rows-1)
		if err := source.Close(); err != nil {
			t.Fatal(err)
		}
		for _, hangAt := range []int64{1000, 5000, -1} {
			p := start(t, task{Store: from, CopyTo: to.DatabaseURL, HangAt: hangAt})
			eventually(t, "it hangs", func() bool { return strings.Contains(p.said.String(), "hangs") })
			p.kill()
			want := 0
			if hangAt < 0 { // it was committed
				want = rows
			}
			target := openStore(t, to, store.Command)
			eventually(t, "the server notices", func() bool { // and drops the transaction
				return target.Count(t, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'`) == 0
			})
			if found := target.Count(t, `SELECT count(*) FROM job`); found != want {
				t.Errorf("killed at %d: %d of %d rows are there", hangAt, found, want)
			}
			source := openStore(t, from, store.Gateway)
			if found := source.Count(t, `SELECT count(*) FROM job`); found != rows {
				t.Errorf("killed at %d: %d rows are left in the source", hangAt, found)
			}
			if err := errors.Join(source.Close(), target.Close()); err != nil {
				t.Fatal(err)
			}
		}
		again, err := store.Copy(t.Context(), from, store.CopyOptions{To: to.DatabaseURL, Check: func(*store.Store) error { return nil }})
		if err != nil || !again.Before || again.Rows() != rows+1 {
			t.Errorf("the next copy: %+v, %v", again, err)
		}
		if s, err := store.Open(t.Context(), from, store.Gateway); err == nil {
			s.Close()
			t.Error("the source can still be used")
		}
	})
}

func openStore(t *testing.T, options store.Options, role store.Role) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), options, role)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
