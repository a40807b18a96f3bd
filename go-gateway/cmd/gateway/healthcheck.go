package main

import (
	"context"

	"triptych.dev/gateway/internal/local"
)

// healthcheck asks the gateway on this machine whether it is ready, for containers that have no shell. It asks the
// operators' listener, which answers also while clients hold all connections to the API.
func healthcheck(ctx context.Context, t terminal, arguments []string) error {
	settings, err := t.parse(newFlags("healthcheck"), arguments, "metrics-address")
	if err != nil {
		return err
	}
	probe, err := local.Probe(settings.MetricsAddress)
	if err != nil {
		return usageError{err}
	}
	return local.Ready(ctx, probe)
}
