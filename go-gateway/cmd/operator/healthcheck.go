package main

import (
	"context"
	"slices"

	"triptych.dev/gateway/internal/local"
)

// healthcheck asks the operator on this machine whether it is ready, for containers that have no shell. Of settings it wants the
// listener's address alone.
func healthcheck(ctx context.Context, arguments []string, lookup func(string) (string, bool)) error {
	s := new(settings)
	rows := slices.DeleteFunc(s.table(), func(row setting) bool { return row.name != "health-address" })
	flags := newFlags()
	values, err := gather(flags, rows, arguments, lookup)
	if err != nil {
		return usageError{err}
	}
	if err := assign(flags, rows, values); err != nil {
		return usageError{err}
	}
	probe, err := local.Probe(s.healthAddress)
	if err != nil {
		return usageError{err}
	}
	return local.Ready(ctx, probe)
}
