package workpool_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"triptych.dev/gateway/internal/workpool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type result = workpool.Result[int, int]

var errWork = errors.New("this item does not work")

// numbers are the first of them.
func numbers(count int) workpool.Source[int] {
	return workpool.Each(func(yield func(int) bool) {
		for i := range count {
			if !yield(i) {
				return
			}
		}
	})
}

// collect is a sink that keeps what it gets.
func collect(into *[]result) func(result) error {
	return func(r result) error {
		*into = append(*into, r)
		return nil
	}
}

// after takes as many seconds as an item says.
func after(ctx context.Context, seconds int) (int, error) {
	select {
	case <-time.After(time.Duration(seconds) * time.Second):
		return seconds, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func TestResultsComeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []result
		progress, err := workpool.Run(t.Context(), workpool.Options{Workers: 7}, numbers(100),
			func(ctx context.Context, item int) (int, error) {
				_, err := after(ctx, item*31%17)
				return 2 * item, err
			}, collect(&got))
		if err != nil || progress != (workpool.Progress{Taken: 100, Done: 100}) {
			t.Fatalf("%+v, %v", progress, err)
		}
		for i, r := range got {
			if r != (result{Index: i, Item: i, Value: 2 * i, Attempts: 1}) {
				t.Errorf("result %d is %+v", i, r)
			}
		}
	})
}

func TestResultsComeAsTheyAreReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []int
		_, err := workpool.Run(t.Context(), workpool.Options{Workers: 3, Unordered: true},
			workpool.Each(slices.Values([]int{3, 1, 2})), after,
			func(r result) error { order = append(order, r.Value); return nil })
		if err != nil || !slices.Equal(order, []int{1, 2, 3}) {
			t.Errorf("%v, %v", order, err)
		}
	})
}

func TestNoMoreRunsAtOnceThanThereAreWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int32
		start := time.Now()
		_, err := workpool.Run(t.Context(), workpool.Options{Workers: 4}, numbers(40),
			func(ctx context.Context, _ int) (int, error) {
				most.Store(max(most.Load(), running.Add(1)))
				defer running.Add(-1)
				return after(ctx, 1)
			}, collect(new([]result)))
		if took := time.Since(start); err != nil || most.Load() != 4 || took != 10*time.Second {
			t.Errorf("%d at once in %v, %v", most.Load(), took, err)
		}
	})
}

// Nobody takes the results: what the pool takes from its source must come to an end.
func TestASlowSinkHoldsUpTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var taken atomic.Int32
		release := make(chan struct{})
		go func() {
			synctest.Wait()
			if got := taken.Load(); got != 2+3+1 { // and one that waits for room
				t.Errorf("%d items were taken", got)
			}
			close(release)
		}()
		_, err := workpool.Run(t.Context(), workpool.Options{Workers: 2, Ahead: 3},
			func(_ context.Context, yield func(int) bool) error {
				for i := range 50 {
					taken.Add(1)
					if !yield(i) {
						return nil
					}
				}
				return nil
			},
			func(_ context.Context, item int) (int, error) { return item, nil },
			func(result) error { <-release; return nil })
		if err != nil {
			t.Error(err)
		}
	})
}

func TestASlowItemHoldsUpTheOthersAfterSoMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var begun atomic.Int32
		release := make(chan struct{})
		go func() {
			synctest.Wait()
			if got := begun.Load(); got != 2+3 {
				t.Errorf("%d items were begun beside one that never ends", got)
			}
			close(release)
		}()
		_, err := workpool.Run(t.Context(), workpool.Options{Workers: 2, Ahead: 3}, numbers(50),
			func(_ context.Context, item int) (int, error) {
				begun.Add(1)
				if item == 0 {
					<-release
				}
				return item, nil
			}, collect(new([]result)))
		if err != nil {
			t.Error(err)
		}
	})
}

func TestTheSinksErrorEndsThePoolAndCancelsWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cancelled atomic.Int32
		start := time.Now()
		never := make(chan int) // nobody ever writes to it again
		go func() {
			for i := range 3 {
				never <- i
			}
		}()
		progress, err := workpool.Run(t.Context(), workpool.Options{Workers: 3, Drain: time.Hour}, workpool.Received(never),
			func(ctx context.Context, item int) (int, error) {
				if item == 0 {
					return 0, errWork
				}
				_, err := after(ctx, 1000)
				if errors.Is(err, errWork) {
					cancelled.Add(1)
				}
				return 0, err
			},
			func(r result) error { synctest.Wait(); return r.Err })
		if !errors.Is(err, errWork) || time.Since(start) != 0 || cancelled.Load() != 2 {
			t.Errorf("%v after %v, %d were cancelled", err, time.Since(start), cancelled.Load())
		}
		if progress.Done != 1 || progress.Failed != 1 || progress.Taken != 3 {
			t.Errorf("%+v", progress)
		}
	})
}

// What runs when the context ends has the drain's time, and the sink gets all of it: a later pool can go on from there.
func TestTheDrainFinishesWhatRuns(t *testing.T) {
	errStop := errors.New("the service is going")
	for _, test := range []struct {
		drain    time.Duration
		finished int // of three that take 5, 6 and 7 s and are interrupted after 2 s
	}{{10 * time.Second, 3}, {3500 * time.Millisecond, 1}, {0, 0}} {
		t.Run(test.drain.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(2*time.Second, func() { cancel(errStop) })
				var got []result
				progress, err := workpool.Run(ctx, workpool.Options{Workers: 3, Drain: test.drain},
					workpool.Each(slices.Values([]int{5, 6, 7, 8, 9})), after, collect(&got))
				if !errors.Is(err, errStop) || len(got) != 3 || progress.Done != 3 || progress.Taken != 3 {
					t.Fatalf("%+v, %v, %v", progress, got, err)
				}
				for i, r := range got {
					if r.Index != i || (i < test.finished) != (r.Err == nil) || (r.Err != nil && !errors.Is(r.Err, workpool.ErrEnding)) {
						t.Errorf("result %d is %+v", i, r)
					}
				}
			})
		})
	}
}

func TestPanicsAreErrorsOfTheirItems(t *testing.T) {
	var got []result
	_, err := workpool.Run(t.Context(), workpool.Options{Workers: 2, Retry: workpool.Retry{Attempts: 5}}, numbers(5),
		func(_ context.Context, item int) (int, error) {
			switch item {
			case 1:
				panic("poison")
			case 2, 3, 4:
				runtime.Goexit() // of more items than there are workers
			}
			return item, nil
		}, collect(&got))
	if err != nil || len(got) != 5 {
		t.Fatalf("%v, %v", got, err)
	}
	found, isPanic := errors.AsType[*workpool.PanicError](got[1].Err)
	if !isPanic || found.Value != "poison" || !strings.Contains(found.Error(), "TestPanicsAreErrorsOfTheirItems") {
		t.Errorf("the panic is %v", got[1].Err)
	}
	for _, r := range got[1:] {
		if r.Err == nil || r.Attempts != 1 {
			t.Errorf("%+v", r)
		}
	}
}

func TestTheSourcesErrorComesAfterItsItems(t *testing.T) {
	errRead := errors.New("the disk is gone")
	for name, end := range map[string]func() error{
		"error":  func() error { return errRead },
		"panic":  func() error { panic(errRead) },
		"goexit": func() error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			var got []result
			_, err := workpool.Run(t.Context(), workpool.Options{Workers: 2},
				func(_ context.Context, yield func(int) bool) error {
					yield(1)
					return end()
				}, func(_ context.Context, item int) (int, error) { return item, nil }, collect(&got))
			if len(got) != 1 || err == nil || !strings.Contains(err.Error(), "the source") {
				t.Errorf("%v, %v", got, err)
			}
			if name == "error" && !errors.Is(err, errRead) {
				t.Error(err)
			}
		})
	}
}

func TestAPanicOfTheSinkIsItsCallersAndLeavesNothingBehind(t *testing.T) {
	defer func() {
		if recover() != "mine" {
			t.Error("the panic did not come")
		}
		goleak.VerifyNone(t)
	}()
	_, _ = workpool.Run(t.Context(), workpool.Options{Workers: 2}, numbers(50),
		func(_ context.Context, item int) (int, error) { return item, nil },
		func(result) error { panic("mine") })
}

func TestProgressIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []workpool.Progress
		_, err := workpool.Run(t.Context(), workpool.Options{
			Workers: 1, Ahead: 1, ProgressEvery: 2 * time.Second,
			Progress: func(p workpool.Progress) { told = append(told, p) },
		}, workpool.Each(slices.Values([]int{3, 4})), after, collect(new([]result)))
		want := []workpool.Progress{{Taken: 2}, {Taken: 2, Done: 1}, {Taken: 2, Done: 1}, {Taken: 2, Done: 2}}
		if err != nil || !slices.Equal(told, want) {
			t.Errorf("%+v, %v", told, err)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := workpool.Run(t.Context(), workpool.Options{}, numbers(1), after, collect(new([]result)))
	if err == nil || !strings.Contains(err.Error(), "Workers is 0") {
		t.Error(err)
	}
}

// BenchmarkPool is the cost of an item that does nothing, beside a channel with as many workers.
func BenchmarkPool(b *testing.B) {
	work := func(_ context.Context, item int) (int, error) { return item, nil }
	for _, workers := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("channel/workers=%d", workers), func(b *testing.B) { benchmarkChannel(b, workers, work) })
		b.Run(fmt.Sprintf("pool/workers=%d", workers), func(b *testing.B) {
			b.ReportAllocs()
			options := workpool.Options{Workers: workers}
			if _, err := workpool.Run(b.Context(), options, numbers(b.N), work, func(result) error { return nil }); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func benchmarkChannel(b *testing.B, workers int, work func(context.Context, int) (int, error)) {
	items, done := make(chan int), make(chan struct{})
	for range workers {
		go func() {
			defer func() { done <- struct{}{} }()
			for item := range items {
				_, _ = work(b.Context(), item)
			}
		}()
	}
	for i := range b.N {
		items <- i
	}
	close(items)
	for range workers {
		<-done
	}
}
