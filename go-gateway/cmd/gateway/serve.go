package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"triptych.dev/gateway/internal/app"
	"triptych.dev/gateway/internal/certificate"
	"triptych.dev/gateway/internal/config"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/telemetry"
	"triptych.dev/gateway/internal/tracing"
)

// serve runs the gateway until ctx ends, then drains it.
func serve(ctx context.Context, t terminal, arguments []string) error {
	flags := newFlags("serve")
	checkOnly := flags.Bool("check-config", false, "check settings and files, and exit: 0, or 64 with every fault; changes nothing")
	settings, err := t.parse(flags, arguments)
	if settings == nil {
		return err
	}
	if *checkOnly {
		if fault := errors.Join(err, checkStore(ctx, settings), checkFiles(settings)); fault != nil {
			return usageError{fault}
		}
		return nil
	}
	if err != nil {
		return usageError{errors.Join(err, checkFiles(settings))}
	}
	logger := telemetry.NewLogger(t.stderr, settings.LogLevel)
	if settings.OTLPEndpoint != "" {
		logger = slog.New(tracing.LogHandler(logger.Handler()))
	}
	keys, err := openStore(ctx, settings, store.Gateway)
	if err != nil {
		return withFaults(err, checkFiles(settings))
	}
	defer keys.Close()
	opened := app.Opened{Store: keys}
	var faults [4]error
	opened.Directory, faults[0] = identity.Open(ctx, keys, settings.TenantsFile, time.Now, logger)
	opened.Certificate, faults[1] = openCertificate(ctx, settings, logger)
	opened.AdminToken, faults[2] = openAdminToken(ctx, settings, logger)
	opened.Blobs, faults[3] = openBlobs(settings)
	if err := errors.Join(faults[:]...); err != nil {
		return usageError{err}
	}
	if err := acceptTokens(ctx, settings, opened.Directory, logger); err != nil {
		return usageError{err}
	}
	if _, chosen := t.lookup("GOMEMLIMIT"); !chosen {
		debug.SetMemoryLimit(memoryLimit(settings, controlGroupMemory(os.DirFS("/"))))
	}
	logger.Info("starting", "settings", settings.Values(), "store", keys.Place(), "memory_limit", debug.SetMemoryLimit(-1))
	if from, to := keys.Migrated(); from != to {
		logger.Info("audit", "by", "start of the gateway", "act", "data migrated", "from", from, "to", to)
	}
	if !opened.Directory.HasKeys() && settings.JWTIssuer == "" {
		logger.Warn("there is no API key yet, so every request is refused; make one with: gateway keys create --tenant NAME")
	}
	return app.Run(ctx, settings, opened, logger)
}

// withFaults adds what is wrong with the files to why the store cannot be opened.
func withFaults(err, files error) error {
	if files != nil {
		return usageError{errors.Join(err, files)}
	}
	return err
}

// openCertificate returns nil where the API is to be plain HTTP.
func openCertificate(ctx context.Context, settings *config.Settings, logger *slog.Logger) (*certificate.Certificate, error) {
	if settings.CertificateFile == "" {
		return nil, nil
	}
	return certificate.Open(ctx, settings.CertificateFile, settings.KeyFile, time.Now, logger)
}

// openAdminToken returns nil where there is to be no admin API.
func openAdminToken(ctx context.Context, settings *config.Settings, logger *slog.Logger) (*identity.AdminToken, error) {
	if settings.AdminAddress == "" {
		return nil, nil
	}
	return identity.OpenAdminToken(ctx, settings.AdminTokenFile, logger)
}

// checkFiles returns every fault of the files that are read again while the gateway runs.
func checkFiles(settings *config.Settings) error {
	err := errors.Join(identity.CheckTenants(settings.TenantsFile), checkJWKS(settings))
	if settings.CertificateFile != "" && settings.KeyFile != "" {
		err = errors.Join(err, certificate.Check(settings.CertificateFile, settings.KeyFile, time.Now()))
	}
	if settings.AdminAddress != "" {
		_, fault := identity.ReadAdminToken(settings.AdminTokenFile)
		err = errors.Join(err, fault)
	}
	return err
}

// checkStore finds what would keep a gateway from the store, where there is one already.
func checkStore(ctx context.Context, settings *config.Settings) error {
	options, err := storeOptions(settings)
	if err != nil {
		return err
	}
	return store.CheckOptions(ctx, options)
}
