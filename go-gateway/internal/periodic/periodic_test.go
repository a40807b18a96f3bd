package periodic

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestWorkIsRepeatedUntilItsContextEnds(t *testing.T) {
	for name, test := range map[string]struct {
		repeat func(context.Context, time.Duration, func(context.Context))
		times  int
	}{"every": {Every, 3}, "at once": {AtOnceAndEvery, 4}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second+time.Millisecond)
				defer cancel()
				times := 0
				test.repeat(ctx, time.Second, func(context.Context) { times++ })
				if times != test.times {
					t.Errorf("%d times in 3 s", times)
				}
			})
		})
	}
}

func TestStepsGoOnAsLongAsThereIsSomethingToDo(t *testing.T) {
	left, errStep := 250, errors.New("no")
	step := func(context.Context) (int, error) {
		done := min(left, 100)
		left -= done
		return done, nil
	}
	if err := Steps(t.Context(), step); err != nil || left != 0 {
		t.Errorf("%d are left, %v", left, err)
	}
	calls := 0
	failing := func(context.Context) (int, error) { calls++; return 100, errStep }
	if err := Steps(t.Context(), failing); !errors.Is(err, errStep) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
	ended, cancel := context.WithCancel(t.Context())
	endless := func(context.Context) (int, error) { cancel(); return 1, nil }
	if err := Steps(ended, endless); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
}

func TestATroubleIsToldOnceAndSoIsItsEnd(t *testing.T) {
	var trouble Trouble
	errs := []error{nil, errors.New("a"), errors.New("b"), nil, nil, errors.New("c")}
	began, ended := []bool{false, true, false, false, false, true}, []bool{false, false, false, true, false, false}
	for i, err := range errs {
		if is := trouble.Ended(err); is != ended[i] {
			t.Errorf("outcome %d: its end is %t", i, is)
		}
		if is := trouble.Began(err); is != began[i] {
			t.Errorf("outcome %d: its beginning is %t", i, is)
		}
	}
}

func TestATroubleIsToldAnewOnceItWasOver(t *testing.T) {
	var trouble Trouble
	for i, step := range []struct {
		err   error
		began bool
	}{{nil, false}, {errors.New("a"), true}, {errors.New("b"), false}, {nil, false}, {errors.New("c"), true}} {
		if is := trouble.Began(step.err); is != step.began {
			t.Errorf("outcome %d: its beginning is %t", i, is)
		}
	}
}
