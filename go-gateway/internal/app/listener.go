package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"syscall"

	"triptych.dev/gateway/internal/admission"
	"triptych.dev/gateway/internal/certificate"
	"triptych.dev/gateway/internal/config"
	"triptych.dev/gateway/internal/telemetry"
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
	connections   *admission.Pool          // at once; more are refused
	certificate   *certificate.Certificate // nil: plain HTTP
	handler       http.Handler
	metrics       *telemetry.Metrics
	settings      *config.Settings
	logger        *slog.Logger

	server *http.Server // once started
}

func (l *listener) start(failures chan<- error) error {
	opened, err := listen(l.address)
	if err != nil {
		return fmt.Errorf("%s listener: %w", l.name, err)
	}
	l.logger.Info("listening", "listener", l.name, "address", opened.Addr().String(), "connections", l.connections.Total(),
		"tls", l.certificate != nil)
	l.server = l.newServer()
	serve := l.server.Serve
	if l.certificate != nil {
		l.server.TLSConfig = l.certificate.TLS()
		serve = func(opened net.Listener) error { return l.server.ServeTLS(opened, "", "") }
	}
	shared := share(opened, l.connections, l.metrics.RefusedConnections.WithLabelValues(l.name).Inc)
	go func() {
		if err := serve(shared); !errors.Is(err, http.ErrServerClosed) {
			failures <- fmt.Errorf("%s listener: %w", l.name, err)
		}
	}()
	return nil
}

func (l *listener) newServer() *http.Server {
	settings := l.settings
	return &http.Server{
		Handler:           l.handler,
		ReadHeaderTimeout: settings.HeaderTimeout,
		// Bounds for what has no own deadline: handlers set the time for a body, for a reply and
		// for each event of a stream themselves. In HTTP/2 they lift that for writing first.
		ReadTimeout:    settings.HeaderTimeout + settings.BodyTimeout,
		WriteTimeout:   settings.HeaderTimeout + settings.BodyTimeout + settings.RequestTimeout + settings.WriteTimeout,
		IdleTimeout:    settings.IdleTimeout,
		MaxHeaderBytes: settings.MaxHeaderBytes,
		// "OPTIONS *" is an unknown path like any other.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     connectionLog(l.logger),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: settings.MaxStreams,
			// For the connection as a whole, whose client reads nothing at all.
			WriteByteTimeout: settings.WriteTimeout,
		},
	}
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
