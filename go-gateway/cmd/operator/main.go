// Command operator makes of the objects Model and Tenant of its namespace what they ask for: hot paths, of which a change is tried
// before all follow, and tenants of the gateway with their keys. docs/operator.md is for who runs it.
//
// It is a module of its own, so that Kubernetes is not in the gateway.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"triptych.dev/gateway/internal/command"
	"triptych.dev/gateway/internal/telemetry"
)

func main() {
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, restore) // the first signal drains, the second one ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}

// run is the program; it returns the exit status. It stops when ctx ends.
func run(ctx context.Context, arguments []string, lookup command.Lookup, stdout, stderr io.Writer) int {
	return command.Status("operator", start(ctx, arguments, lookup, stdout, stderr), stderr)
}

func start(ctx context.Context, arguments []string, lookup command.Lookup, stdout, stderr io.Writer) error {
	if len(arguments) > 0 && arguments[0] == "healthcheck" {
		return new(settings).table().Healthcheck(ctx, "health-address", arguments[1:], lookup)
	}
	flags := new(settings).table().NewFlags()
	checkOnly := flags.Bool("check-config", false, "check settings and files, and exit: 0, or 64 with every fault")
	docs := flags.Bool("config-docs", false, "print the table of settings in Markdown, and exit")
	s, err := parse(flags, arguments, lookup)
	switch {
	case errors.Is(err, flag.ErrHelp):
		_, _ = fmt.Fprintln(stdout, "usage: operator [FLAGS]\n       operator healthcheck [--health-address ADDRESS]: 0 while that one is ready")
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return err
	case *docs:
		return new(settings).table().WriteMarkdown(stdout)
	case err != nil:
		return command.Usage(err)
	}
	logger := telemetry.NewLogger(stderr, s.logLevel)
	manager, err := newManager(s, logger)
	if err != nil {
		return command.Usage(err)
	}
	if *checkOnly {
		return nil
	}
	logger.Info("starting", "settings", s.table().Values())
	if err := manager.Start(ctx); err != nil {
		return fmt.Errorf("running: %w", err)
	}
	logger.Info("stopped")
	return nil
}
