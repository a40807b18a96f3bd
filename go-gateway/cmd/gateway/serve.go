package main

import (
	"context"
	"errors"
	"os"
	"runtime/debug"

	"triptych.dev/gateway/internal/app"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/telemetry"
)

// serve runs the gateway until ctx ends, then drains it.
func serve(ctx context.Context, t terminal, arguments []string) error {
	flags := newFlags("serve")
	checkOnly := flags.Bool("check-config", false, "check settings and files, and exit: 0, or 64 with every fault")
	settings, err := t.parse(flags, arguments)
	if settings == nil {
		return err
	}
	logger := telemetry.NewLogger(t.stderr, settings.LogLevel)
	directory, filesErr := identity.Open(settings.KeysFile, settings.TenantsFile, logger)
	if err := errors.Join(err, filesErr); err != nil {
		return usageError{err}
	}
	if *checkOnly {
		return nil
	}
	if _, chosen := t.lookup("GOMEMLIMIT"); !chosen {
		debug.SetMemoryLimit(memoryLimit(settings, controlGroupMemory(os.DirFS("/"))))
	}
	logger.Info("starting", "settings", settings.Values(), "memory_limit", debug.SetMemoryLimit(-1))
	return app.Run(ctx, settings, directory, logger)
}
