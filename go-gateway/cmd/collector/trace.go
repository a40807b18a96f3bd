package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"triptych.dev/gateway/cmd/collector/internal/tracetext"
)

const traceUsage = `usage: collector trace REQUEST_ID FILE…: where a request's time went, from files of the file exporter
       (REQUEST_ID: as X-Request-Id and the log have it, or the 32 digits of a trace's id)`

// trace draws what files have of a request.
func trace(ctx context.Context, arguments []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("trace", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	err := flags.Parse(arguments)
	switch {
	case errors.Is(err, flag.ErrHelp):
		_, err := io.WriteString(stdout, traceUsage+"\n")
		return err
	case err != nil || flags.NArg() < 2:
		return usageError{errors.New(traceUsage)}
	}
	id, files := flags.Arg(0), flags.Args()[1:]
	found, skipped, err := tracetext.Find(ctx, id, files)
	if skipped > 0 {
		_, _ = fmt.Fprintf(stderr, "collector: %d lines are none of the file exporter's, or are too long: they are left out\n", skipped)
	}
	if err != nil {
		return err
	}
	return tracetext.Draw(stdout, found)
}
