// Command gateway is where people and policy come in: HTTP, keys, tenants, limits. It has the commands, and package
// internal/app what they serve.
package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"google.golang.org/grpc/grpclog"

	"triptych.dev/gateway/internal/telemetry"
	"triptych.dev/gateway/internal/tracing"
)

func main() {
	tuneRuntime(os.LookupEnv)
	// What grpc-go has to say becomes lines like our own. It wants to know before it is used.
	lines := slog.NewLogLogger(telemetry.NewLogger(os.Stderr, slog.LevelWarn).Handler(), slog.LevelWarn).Writer()
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, lines))
	tracing.LogFaults(lines)

	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal drains. It also restores the signals' own effect, so the second one ends the process at once.
	context.AfterFunc(ctx, restore)
	os.Exit(run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}
