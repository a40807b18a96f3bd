// Command consumer has messages of a NATS JetStream stream done as jobs of the gateway. It acknowledges a message once its
// result is durable, and several of it share the work. docs/consumers.md has the life of a message.
//
// It is a module of its own, so that NATS is not in the gateway. Of the gateway it uses the pool of workers and the log's form.
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
	exitFailed = 1
	exitUsage  = 64 // EX_USAGE: arguments, environment or files are wrong
)

func main() {
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, restore) // the first signal drains, the second one ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}

// usageError is a mistake of whoever started us, which time does not mend.
type usageError struct{ error }

// run is the program; it returns the exit status. It drains when ctx ends.
func run(ctx context.Context, arguments []string, lookup func(string) (string, bool), stdout, stderr io.Writer) int {
	err := start(ctx, arguments, lookup, stdout, stderr)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	for line := range strings.Lines(err.Error()) {
		_, _ = fmt.Fprintf(stderr, "consumer: %s\n", strings.TrimSuffix(line, "\n"))
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
		_, _ = fmt.Fprintln(stdout, "usage: consumer [FLAGS]\n       consumer healthcheck [--metrics-address ADDRESS]: 0 while that one fetches messages")
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return err
	case *docs:
		return writeMarkdown(stdout)
	case err != nil:
		return usageError{err}
	}
	c, err := newConsumer(s, telemetry.NewLogger(stderr, s.logLevel))
	if err != nil {
		return usageError{err}
	}
	if *checkOnly {
		return nil
	}
	return c.run(ctx)
}
