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
	"strings"
	"syscall"

	"triptych.dev/gateway/internal/telemetry"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1  // also of one that was the leader and could not say so in time: another may be by now
	exitUsage  = 64 // EX_USAGE: arguments, environment or files are wrong
)

func main() {
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, restore) // the first signal drains, the second one ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}

// usageError is a mistake of whoever started us, which time does not mend.
type usageError struct{ error }

// run is the program; it returns the exit status. It stops when ctx ends.
func run(ctx context.Context, arguments []string, lookup func(string) (string, bool), stdout, stderr io.Writer) int {
	err := start(ctx, arguments, lookup, stdout, stderr)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	for line := range strings.Lines(err.Error()) {
		_, _ = fmt.Fprintf(stderr, "operator: %s\n", strings.TrimSuffix(line, "\n"))
	}
	if _, usage := errors.AsType[usageError](err); usage {
		return exitUsage
	}
	return exitFailed
}

func start(ctx context.Context, arguments []string, lookup func(string) (string, bool), stdout, stderr io.Writer) error {
	if len(arguments) > 0 && arguments[0] == "healthcheck" {
		return healthcheck(ctx, arguments[1:], lookup)
	}
	flags := newFlags()
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
		return writeMarkdown(stdout)
	case err != nil:
		return usageError{err}
	}
	logger := telemetry.NewLogger(stderr, s.logLevel)
	manager, err := newManager(s, logger)
	if err != nil {
		return usageError{err}
	}
	if *checkOnly {
		return nil
	}
	logger.Info("starting", "settings", s.values())
	if err := manager.Start(ctx); err != nil {
		return fmt.Errorf("running: %w", err)
	}
	logger.Info("stopped")
	return nil
}
