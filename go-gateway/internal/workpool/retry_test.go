package workpool_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"triptych.dev/gateway/internal/workpool"
)

func TestRetriesPauseLongerEachTimeAndAtRandom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const base, most = 8 * time.Second, 20 * time.Second
		bounds := []time.Duration{base, 2 * base, most, most}
		longest := make([]time.Duration, len(bounds))
		for range 40 {
			var began []time.Time
			var got []result
			_, err := workpool.Run(t.Context(), workpool.Options{
				Workers: 1, Retry: workpool.Retry{Attempts: len(bounds) + 1, Base: base, Max: most},
			}, numbers(1), func(context.Context, int) (int, error) {
				began = append(began, time.Now())
				return 0, errWork
			}, collect(&got))
			if err != nil || got[0].Attempts != len(bounds)+1 || !errors.Is(got[0].Err, errWork) {
				t.Fatalf("%+v, %v", got, err)
			}
			for i, bound := range bounds {
				pause := began[i+1].Sub(began[i])
				longest[i] = max(longest[i], pause)
				if pause < 0 || pause > bound {
					t.Errorf("pause %d is %v, the bound %v", i, pause, bound)
				}
			}
		}
		for i, bound := range bounds { // of 40, none in the upper half: once in 10^12
			if longest[i] < bound/2 {
				t.Errorf("pause %d was never longer than %v of %v", i, longest[i], bound)
			}
		}
	})
}

func TestAnErrorSaysWhetherAndWhenItIsWorthAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var got []result
		progress, err := workpool.Run(t.Context(), workpool.Options{Workers: 1, Retry: workpool.Retry{
			Attempts: 3, If: func(err error) (time.Duration, bool) { return time.Minute, !errors.Is(err, errWork) },
		}}, numbers(2), func(_ context.Context, item int) (int, error) {
			if item == 0 {
				return 0, errWork
			}
			if time.Since(start) < 90*time.Second {
				return 0, errors.New("later")
			}
			return 7, nil
		}, collect(&got))
		if err != nil || got[0].Attempts != 1 || got[1].Attempts != 3 || got[1].Value != 7 || time.Since(start) != 2*time.Minute {
			t.Errorf("%+v after %v, %v", got, time.Since(start), err)
		}
		if progress != (workpool.Progress{Taken: 2, Done: 2, Failed: 1, Retries: 2}) {
			t.Errorf("%+v", progress)
		}
	})
}

func TestTheBudgetBoundsRetriesOverAll(t *testing.T) {
	progress, err := workpool.Run(t.Context(), workpool.Options{
		Workers: 4, Retry: workpool.Retry{Attempts: 100, Budget: 0.5},
	}, numbers(200), func(context.Context, int) (int, error) { return 0, errWork }, collect(new([]result)))
	if err != nil || progress.Failed != 200 || progress.Retries != 10+100 {
		t.Errorf("%+v, %v", progress, err)
	}
}

func TestNoAttemptBeginsOnceThePoolIsEnding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		var got []result
		_, err := workpool.Run(ctx, workpool.Options{Workers: 2, Drain: time.Hour, Retry: workpool.Retry{
			Attempts: 3, If: func(error) (time.Duration, bool) { return time.Minute, true },
		}}, numbers(5), func(context.Context, int) (int, error) { return 0, errWork }, collect(&got))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second || len(got) != 2 {
			t.Fatalf("%v, %v after %v", got, err, time.Since(start))
		}
		for _, r := range got {
			if !errors.Is(r.Err, workpool.ErrEnding) || !errors.Is(r.Err, errWork) || r.Attempts != 1 {
				t.Errorf("%+v", r)
			}
		}
	})
}
