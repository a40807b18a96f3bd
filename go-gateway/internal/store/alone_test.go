package store_test

import (
	"errors"
	"testing"
	"time"

	"triptych.dev/gateway/internal/store"
)

// beside runs something that others can be beside, until stop is called.
func beside(t *testing.T, s *store.Store) (wanted func() (bool, error), stop func()) {
	t.Helper()
	begun, over, ended := make(chan func() (bool, error)), make(chan struct{}), make(chan error)
	go func() {
		ended <- s.RunBeside(t.Context(), func(wanted func() (bool, error)) error {
			begun <- wanted
			<-over
			return nil
		})
	}()
	select {
	case wanted = <-begun:
	case err := <-ended:
		t.Fatal(err)
	}
	return wanted, func() {
		t.Helper()
		close(over)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func openTwo(t *testing.T, options store.Options) (first, second *store.Store) {
	t.Helper()
	for _, s := range []**store.Store{&first, &second} {
		opened, err := store.Open(t.Context(), options, store.Gateway)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { opened.Close() })
		*s = opened
	}
	return first, second
}

// Who wants to run alone waits for all that run beside others, which find out, and has others wait.
func TestGatewaysRunBesideEachOtherOrOneAlone(t *testing.T) {
	onPostgres(t, func(t *testing.T, options store.Options) {
		first, second := openTwo(t, options)
		wanted, stop := beside(t, first)
		_, stopOther := beside(t, second)
		stopOther()
		if is, err := wanted(); is || err != nil {
			t.Errorf("nobody waits: %v, %v", is, err)
		}
		if _, err := second.RunAlone(t.Context(), 10*time.Millisecond); !errors.Is(err, store.ErrBusy) {
			t.Errorf("beside another one: %v", err)
		}
		alone := make(chan func())
		go func() {
			end, err := second.RunAlone(t.Context(), time.Minute)
			if err != nil {
				t.Error(err)
			}
			alone <- end
		}()
		eventually(t, "it is known that somebody waits", func() bool { is, err := wanted(); return is && err == nil })
		stop()
		end := <-alone
		again := make(chan func())
		go func() {
			_, stop := beside(t, first)
			again <- stop
		}()
		select {
		case <-again:
			t.Error("another one runs beside who is alone")
		case <-time.After(100 * time.Millisecond):
		}
		end()
		(<-again)()
	})
}

// Who is alone for long stays so: the database ends what shows no life.
func TestWhoRunsAloneShowsLife(t *testing.T) {
	t.Parallel() // it waits
	onPostgres(t, func(t *testing.T, options store.Options) {
		first, second := openTwo(t, options)
		end, err := first.RunAlone(t.Context(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer end()
		time.Sleep(11 * time.Second) // longer than a transaction may be idle
		if _, err := second.RunAlone(t.Context(), 10*time.Millisecond); !errors.Is(err, store.ErrBusy) {
			t.Errorf("the turn was lost: %v", err)
		}
	})
}
