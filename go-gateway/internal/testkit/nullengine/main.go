// Command nullengine stands for the hot path where the gateway itself is measured: it answers at once, and always the
// same. It also has what such a measurement needs beside it: a plain proxy as a peer, and a driver that costs little.
//
// Benchmarks build it; nothing of it is shipped.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"triptych.dev/gateway/internal/telemetry"
)

var commands = map[string]func(ctx context.Context, logger *slog.Logger, arguments []string) error{
	"engine": runEngine,
	"front":  runFront,
	"load":   runLoad,
}

func main() {
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer restore()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "nullengine: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	usage := errors.New("usage: nullengine engine|front|load [FLAGS]; nullengine COMMAND -help lists its flags")
	if len(arguments) == 0 {
		return usage
	}
	command, known := commands[arguments[0]]
	if !known {
		return usage
	}
	err := command(ctx, telemetry.NewLogger(os.Stderr, slog.LevelInfo), arguments[1:])
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	return err
}
