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
	"syscall"

	"triptych.dev/gateway/internal/command"
	"triptych.dev/gateway/internal/telemetry"
)

func main() {
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, restore) // the first signal drains, the second one ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}

// run is the program; it returns the exit status. It drains when ctx ends.
func run(ctx context.Context, arguments []string, lookup command.Lookup, stdout, stderr io.Writer) int {
	return command.Status("consumer", start(ctx, arguments, lookup, stdout, stderr), stderr)
}

func start(ctx context.Context, arguments []string, lookup command.Lookup, stdout, stderr io.Writer) error {
	if len(arguments) > 0 && arguments[0] == "healthcheck" {
		return new(settings).table().Healthcheck(ctx, "metrics-address", arguments[1:], lookup)
	}
	flags := new(settings).table().NewFlags()
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
		return new(settings).table().WriteMarkdown(stdout)
	case err != nil:
		return command.Usage(err)
	}
	c, err := newConsumer(s, telemetry.NewLogger(stderr, s.logLevel))
	if err != nil {
		return command.Usage(err)
	}
	if *checkOnly {
		return nil
	}
	return c.run(ctx)
}
