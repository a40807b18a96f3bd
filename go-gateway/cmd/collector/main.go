// Command collector is a small distribution of the OpenTelemetry Collector. Of upstream's components it has those that this
// stack needs, and two of ours: a processor that takes out what looks like a key, and a connector that makes a record of what
// each request used. docs/collector.md is for whoever runs it.
//
// It is a module of its own, so that the Collector is not in the gateway. It uses nothing of the gateway: what they share is
// the names of spans and attributes, which travel.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"go.opentelemetry.io/collector/otelcol"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 64 // EX_USAGE: arguments or files are wrong
)

func main() {
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, restore)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// usageError is a mistake of whoever started us, which time does not mend.
type usageError struct{ error }

// run is the program; it returns the exit status.
func run(ctx context.Context, arguments []string, stdout, stderr io.Writer) int {
	err := start(ctx, arguments, stdout, stderr)
	if err == nil {
		return exitOK
	}
	for line := range strings.Lines(err.Error()) {
		_, _ = fmt.Fprintf(stderr, "collector: %s\n", strings.TrimSuffix(line, "\n"))
	}
	if _, usage := errors.AsType[usageError](err); usage {
		return exitUsage
	}
	return exitFailed
}

func start(ctx context.Context, arguments []string, stdout, stderr io.Writer) error {
	if len(arguments) > 0 {
		switch arguments[0] {
		case "trace":
			return trace(ctx, arguments[1:], stdout, stderr)
		case "healthcheck":
			return healthcheck(ctx, arguments[1:])
		}
	}
	command := otelcol.NewCommand(settings())
	command.Long = "Collects traces: collector --config FILE.\n\n" + traceUsage + "\n\n" + healthcheckUsage
	command.SetArgs(arguments)
	command.SetOut(stdout)
	command.SetErr(stderr)
	command.SilenceErrors = true // run tells of them
	// Upstream drains at SIGTERM by itself, and would cut its own drain short if the context ended.
	return command.ExecuteContext(context.WithoutCancel(ctx))
}
