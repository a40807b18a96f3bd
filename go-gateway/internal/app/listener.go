package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"syscall"

	"golang.org/x/net/netutil"

	"triptych.dev/gateway/internal/config"
)

const (
	// Files and connections that are not the API's: the operators', the hot paths', the files that are read again. So
	// many, or a quarter where there are few.
	reservedFiles = 512
	reservedPart  = 4
)

// listener is a component that serves HTTP.
type listener struct {
	name, address string
	connections   int // at once; more have to wait
	handler       http.Handler
	settings      *config.Settings
	logger        *slog.Logger

	server *http.Server // once started
}

func (l *listener) start(failures chan<- error) error {
	opened, err := listen(l.address)
	if err != nil {
		return fmt.Errorf("%s listener: %w", l.name, err)
	}
	l.logger.Info("listening", "listener", l.name, "address", opened.Addr().String(), "connections", l.connections)
	settings := l.settings
	l.server = &http.Server{
		Handler:           l.handler,
		ReadHeaderTimeout: settings.HeaderTimeout,
		// Bounds for what has no own deadline: handlers set the time for a body, for a reply and
		// for each event of a stream themselves.
		ReadTimeout:    settings.HeaderTimeout + settings.BodyTimeout,
		WriteTimeout:   settings.HeaderTimeout + settings.BodyTimeout + settings.RequestTimeout + settings.WriteTimeout,
		IdleTimeout:    settings.IdleTimeout,
		MaxHeaderBytes: settings.MaxHeaderBytes,
		// "OPTIONS *" is an unknown path like any other.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(l.logger.Handler(), slog.LevelWarn),
	}
	go func() {
		if err := l.server.Serve(netutil.LimitListener(opened, l.connections)); !errors.Is(err, http.ErrServerClosed) {
			failures <- fmt.Errorf("%s listener: %w", l.name, err)
		}
	}()
	return nil
}

// drain stops listening, and waits for accepted requests.
func (l *listener) drain() error {
	ctx, cancel := context.WithTimeout(context.Background(), l.settings.DrainTimeout)
	defer cancel()
	if err := l.server.Shutdown(ctx); err != nil {
		return fmt.Errorf("requests were cut off: they took longer than the drain timeout of %v", l.settings.DrainTimeout)
	}
	l.logger.Info("stopped")
	return nil
}

// stop ends the listener and all requests.
func (l *listener) stop() error { return l.server.Close() }

// connectionLimits are how many connections the API and the operators' listener may have at once, of files that the
// process may have open. Operators have a limit of their own, so that probes and scrapes pass while the API is full.
func connectionLimits(settings *config.Settings, files int) (api, operators int) {
	reserved := min(reservedFiles, files/reservedPart)
	return max(1, min(settings.MaxConnections, files-reserved)), max(1, reserved/4)
}

// openFiles is how many files the process may have open; Go has raised it as far as it may.
func openFiles() int {
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) != nil {
		return math.MaxInt
	}
	return int(min(files.Cur, math.MaxInt))
}
