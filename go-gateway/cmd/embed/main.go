// Command embed reads texts from JSONL, CSV, Parquet or folders, has them embedded through the API, and writes .npy, Arrow or
// Parquet. It can be killed at any moment and started again, and several of it share the work.
//
// It is a module of its own, so that what Parquet takes is not in the gateway. Of the gateway it uses the pool of workers.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"triptych.dev/gateway/internal/workpool"
)

// Exit codes.
const (
	exitDone     = 0
	exitNotDone  = 1
	exitFailures = 3
	exitUsage    = 64
	exitCtrlC    = 130
)

func main() {
	// What grows is an index without pointers, which the collector need not look through.
	if _, chosen := os.LookupEnv("GOGC"); !chosen {
		debug.SetGCPercent(50)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		signal.Stop(signals) // the second one ends the process at once
		cancel(errInterrupted)
	}()
	os.Exit(run(ctx, os.Args[1:], os.LookupEnv, os.Stderr, retries))
}

func run(
	ctx context.Context, arguments []string, environment func(string) (string, bool), stderr io.Writer, retry workpool.Retry,
) int {
	say := func(format string, arguments ...any) { _, _ = fmt.Fprintf(stderr, "embed: "+format+"\n", arguments...) }
	s, err := readSettings(arguments, environment, stderr)
	var result done
	if err == nil {
		result, err = embed(ctx, s, stderr, retry)
	}
	var usage usageError
	var unsaved *saveError
	switch {
	case errors.Is(err, errHelp):
		return exitDone
	case errors.As(err, &usage):
		say("%v", err)
		return exitUsage
	case errors.Is(err, errInterrupted):
		say("interrupted; what is finished is kept, and the same command goes on")
		return exitCtrlC
	case errors.As(err, &unsaved):
		say("%v: see to the disk; what is finished is kept, and the same command goes on", err)
		return exitNotDone
	case err != nil:
		say("%v\nembed: what is finished is kept, and the same command goes on", err)
		return exitNotDone
	case result.Failed > 0:
		say("%d vectors of %d records in %s; %d have none, and %s/%s says why", result.Vectors, result.Records, s.output,
			result.Failed, s.output, failedFile)
		return exitFailures
	default:
		say("%d vectors of %d records in %s", result.Vectors, result.Records, s.output)
		return exitDone
	}
}
