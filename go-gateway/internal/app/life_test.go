package app

import (
	"context"
	"errors"
	"slices"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBroken = errors.New("broken")

// journal makes components that write down what is done with them.
type journal []string

func (j *journal) component(name string, startError error) component {
	return component{
		start: func(chan<- error) error { *j = append(*j, "start "+name); return startError },
		drain: func() error { *j = append(*j, "drain "+name); return nil },
		stop:  func() error { *j = append(*j, "stop "+name); return nil },
	}
}

func (j *journal) check(t *testing.T, wanted ...string) {
	t.Helper()
	if !slices.Equal(*j, wanted) {
		t.Errorf("got %q", *j)
	}
}

func TestComponentsDrainInReverseAndThenStop(t *testing.T) {
	var done journal
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, []component{done.component("a", nil), {}, done.component("b", nil)}); err != nil {
		t.Error(err)
	}
	done.check(t, "start a", "start b", "drain b", "drain a", "stop b", "stop a")
}

func TestWhatDoesNotStartStopsTheRest(t *testing.T) {
	var done journal
	err := run(t.Context(), []component{done.component("a", nil), done.component("b", errBroken), done.component("c", nil)})
	if !errors.Is(err, errBroken) {
		t.Error(err)
	}
	done.check(t, "start a", "start b", "stop a")
}

func TestAFailureStopsWithoutDraining(t *testing.T) {
	var done journal
	fails := component{start: func(failures chan<- error) error { failures <- errBroken; return nil }}
	if err := run(t.Context(), []component{done.component("a", nil), fails}); !errors.Is(err, errBroken) {
		t.Error(err)
	}
	done.check(t, "start a", "stop a")
}

func TestFaultsOfDrainingAndStoppingAreBothTold(t *testing.T) {
	errLost := errors.New("lost")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := run(ctx, []component{{drain: func() error { return errLost }, stop: func() error { return errBroken }}})
	if !errors.Is(err, errLost) || !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
}

func TestBackgroundWorkEndsBeforeStopReturns(t *testing.T) {
	ended := false
	c := background(func(ctx context.Context) {
		<-ctx.Done()
		ended = true
	})
	if err := errors.Join(c.start(nil), c.stop()); err != nil || !ended {
		t.Errorf("ended %v, %v", ended, err)
	}
}
