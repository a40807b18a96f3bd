package main

import (
	"context"
	"slices"

	"triptych.dev/gateway/internal/local"
)

// healthcheck asks the consumer on this machine whether messages are fetched, for containers that have no shell. Of settings
// it wants the listener's address alone.
func healthcheck(ctx context.Context, arguments []string, lookup func(string) (string, bool)) error {
	s := new(settings)
	rows := slices.DeleteFunc(s.table(), func(row setting) bool { return row.name != "metrics-address" })
	flags := newFlags()
	values, err := gather(flags, rows, arguments, lookup)
	if err != nil {
		return usageError{err}
	}
	if err := assign(flags, rows, values); err != nil {
		return usageError{err}
	}
	probe, err := local.Probe(s.metricsAddress)
	if err != nil {
		return usageError{err}
	}
	return local.Ready(ctx, probe)
}
