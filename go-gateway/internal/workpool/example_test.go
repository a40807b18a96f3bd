package workpool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"triptych.dev/gateway/internal/workpool"
)

// A pool of workers in Go often begins like this: a channel of batches of texts, and n workers that write embeddings.
//
// It is right as far as it goes. But results come in any order; an error has nowhere to go; a panic ends the process; whoever
// writes to the channel blocks for ever once the workers are gone; Ctrl-C loses what was done; and nobody knows how far it is.
func Example_channel() {
	const n = 3
	embeddings := make([][]float32, 4)

	type batch struct {
		first int
		texts []string
	}
	batches := make(chan batch)
	var workers sync.WaitGroup
	for range n {
		workers.Go(func() {
			for batch := range batches {
				vectors, err := embed(context.Background(), batch.texts)
				if err != nil {
					continue // and now?
				}
				copy(embeddings[batch.first:], vectors)
			}
		})
	}
	batches <- batch{0, []string{"a", "bb"}}
	batches <- batch{2, []string{"ccc", "dddd"}}
	close(batches)
	workers.Wait()

	fmt.Println(embeddings)
	// Output: [[1] [2] [3] [4]]
}

// The same with a pool. Results come in order, one at a time, to a function that needs no lock; an error of the service is
// tried again, another one is noted, and the rest goes on; Ctrl-C takes no more batches, and gives those that run ten seconds.
func Example_pool() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	batches := make(chan []string)
	go func() {
		defer close(batches)
		for _, texts := range [][]string{{"a", "bb"}, {"", "x"}, {"ccc", "dddd"}} {
			select {
			case batches <- texts:
			case <-ctx.Done():
				return
			}
		}
	}()

	options := workpool.Options{
		Workers: 3,
		Drain:   10 * time.Second,
		Retry: workpool.Retry{
			Attempts: 4, Base: 100 * time.Millisecond, Max: 5 * time.Second, Budget: 0.2,
			If: func(err error) (time.Duration, bool) { return 0, errors.Is(err, errBusy) },
		},
		Progress:      func(p workpool.Progress) { fmt.Printf("%d of %d batches, %d failed\n", p.Done, p.Taken, p.Failed) },
		ProgressEvery: time.Second,
	}
	var embeddings [][]float32
	_, err := workpool.Run(ctx, options, workpool.Received(batches), embed,
		func(result workpool.Result[[]string, [][]float32]) error {
			if result.Err != nil {
				fmt.Printf("batch %d: %v\n", result.Index, result.Err)
				return nil // the others go on; the error itself would end the pool
			}
			embeddings = append(embeddings, result.Value...)
			return nil
		})

	fmt.Println(embeddings, err)
	// Output:
	// batch 1: text 0 is empty
	// 3 of 3 batches, 1 failed
	// [[1] [2] [3] [4]] <nil>
}

// What is a slice or an iterator already is a source as it is, and an error from the sink is the pool's.
func Example_each() {
	texts := slices.Chunk([]string{"a", "bb", "ccc", "", "eeeee"}, 2)
	_, err := workpool.Run(context.Background(), workpool.Options{Workers: 2}, workpool.Each(texts), embed,
		func(result workpool.Result[[]string, [][]float32]) error {
			fmt.Println(result.Item, result.Value)
			return result.Err
		})
	fmt.Println(err)
	// Output:
	// [a bb] [[1] [2]]
	// [ccc ] []
	// text 1 is empty
}

var errBusy = errors.New("busy")

// embed stands for a call of the API.
func embed(_ context.Context, texts []string) ([][]float32, error) {
	vectors := make([][]float32, len(texts))
	for i, text := range texts {
		if text == "" {
			return nil, fmt.Errorf("text %d is empty", i)
		}
		vectors[i] = []float32{float32(len(text))}
	}
	return vectors, nil
}
