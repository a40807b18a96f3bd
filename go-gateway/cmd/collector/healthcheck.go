package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const healthcheckUsage = "usage: collector healthcheck [--address HOST:PORT]: 0 while that one takes spans"

const healthcheckTimeout = 3 * time.Second

// healthcheck sends no spans to the collector on this machine, which it has to take: for containers that have no shell.
func healthcheck(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("healthcheck", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	address := flags.String("address", "127.0.0.1:4317", "")
	if err := flags.Parse(arguments); err != nil || flags.NArg() > 0 {
		return usageError{errors.New(healthcheckUsage)}
	}
	connection, err := grpc.NewClient("passthrough:///"+*address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return usageError{err}
	}
	defer func() { _ = connection.Close() }() // it has nothing to lose
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	if _, err := ptraceotlp.NewGRPCClient(connection).Export(ctx, ptraceotlp.NewExportRequest()); err != nil {
		return fmt.Errorf("%s takes no spans: %w", *address, err)
	}
	return nil
}
