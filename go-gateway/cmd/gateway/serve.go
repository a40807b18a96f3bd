package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"triptych.dev/gateway/internal/config"
	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/server"
	"triptych.dev/gateway/internal/telemetry"
	"triptych.dev/gateway/internal/tenant"
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
	directory, filesErr := tenant.Open(settings.KeysFile, settings.TenantsFile, logger)
	if err := errors.Join(err, filesErr); err != nil {
		return usageError{err}
	}
	if *checkOnly {
		return nil
	}
	if _, chosen := t.lookup("GOMEMLIMIT"); !chosen {
		debug.SetMemoryLimit(memoryLimit(settings, controlGroupMemory(os.DirFS("/"))))
	}
	connections, _ := connectionLimits(settings, openFiles())
	logger.Info("starting", "settings", settings.Values(), "memory_limit", debug.SetMemoryLimit(-1), "connections", connections)
	return startGateway(ctx, settings, directory, logger)
}

// startGateway opens the listeners, and closes everything in the reverse order.
func startGateway(ctx context.Context, settings *config.Settings, directory *tenant.Directory, logger *slog.Logger) (err error) {
	metrics := telemetry.NewMetrics()
	hotpath, err := engine.New(engine.Options{
		Addresses:         settings.HotpathAddresses,
		Timeout:           settings.RequestTimeout,
		GenerationTimeout: settings.GenerationTimeout,
		CanaryInterval:    settings.CanaryInterval,
		ReadyWindow:       settings.ReadyWindow,
		Metrics:           metrics,
		Logger:            logger,
		Now:               time.Now,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hotpath.Close()) }()
	gateway := server.New(server.Options{
		Engine: hotpath, Directory: directory, Requests: quota.NewRequests(), Metrics: metrics, Logger: logger, Now: time.Now,
		MaxBodyBytes: settings.MaxBodyBytes, MaxBodiesBytes: settings.MaxTotalBodyBytes, MaxInflight: settings.MaxInflight,
		BodyTimeout: settings.BodyTimeout, WriteTimeout: settings.WriteTimeout,
		StreamHeartbeat: settings.StreamHeartbeat, ModerationModel: settings.ModerationModel,
	})
	metrics.ReportReady(gateway.Ready)
	for source := range directory.Staleness(time.Now()) {
		metrics.ReportStaleness(source, func() time.Duration { return directory.Staleness(time.Now())[source] })
	}

	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx)) // also while draining
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer stopWatching()
	watchers.Go(func() { hotpath.Watch(watching) })
	watchers.Go(func() { directory.Watch(watching) })

	apiConnections, operatorsConnections := connectionLimits(settings, openFiles())
	failures := make(chan error, 2) // one for each listener, so none blocks
	operations, err := listen("metrics", settings.MetricsAddress, operatorsConnections, gateway.Operations(), settings, logger, failures)
	if err != nil {
		return err
	}
	defer operations.Close()
	api, err := listen("http", settings.HTTPAddress, apiConnections, gateway.API(), settings, logger, failures)
	if err != nil {
		return err
	}
	defer api.Close()

	select {
	case err := <-failures:
		return err
	case <-ctx.Done():
		return drain(gateway, api, settings, logger)
	}
}

// listen serves handler at address on so many connections at once, in the background, until the returned server is closed.
func listen(
	name, address string, connections int, handler http.Handler, settings *config.Settings, logger *slog.Logger, failures chan<- error,
) (*http.Server, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s listener: %w", name, err)
	}
	logger.Info("listening", "listener", name, "address", listener.Addr().String())
	served := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: settings.HeaderTimeout,
		// Bounds for what has no own deadline: handlers set the time for a body, for a reply and
		// for each event of a stream themselves.
		ReadTimeout:    settings.HeaderTimeout + settings.BodyTimeout,
		WriteTimeout:   settings.HeaderTimeout + settings.BodyTimeout + settings.RequestTimeout + settings.WriteTimeout,
		IdleTimeout:    settings.IdleTimeout,
		MaxHeaderBytes: settings.MaxHeaderBytes,
		// "OPTIONS *" is an unknown path like any other.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	go func() {
		if err := served.Serve(netutil.LimitListener(listener, connections)); !errors.Is(err, http.ErrServerClosed) {
			failures <- fmt.Errorf("%s listener: %w", name, err)
		}
	}()
	return served, nil
}

// drain ends the API without losing an accepted request: first nobody new is sent here, then nobody new is let in, then
// those inside are waited for.
func drain(gateway *server.Server, api *http.Server, settings *config.Settings, logger *slog.Logger) error {
	logger.Info("draining", "delay", settings.DrainDelay.String(), "timeout", settings.DrainTimeout.String())
	gateway.Drain()
	time.Sleep(settings.DrainDelay)
	ctx, cancel := context.WithTimeout(context.Background(), settings.DrainTimeout)
	defer cancel()
	if err := api.Shutdown(ctx); err != nil {
		return fmt.Errorf("requests were cut off: they took longer than the drain timeout of %v", settings.DrainTimeout)
	}
	logger.Info("stopped")
	return nil
}
