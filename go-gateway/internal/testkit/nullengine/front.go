package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
)

// idleUpstream is how many connections the plain proxy keeps: the driver's at most, so that none is opened twice.
const idleUpstream = 256

// runFront is the least that a proxy in Go can do: HTTP in, the same HTTP out. It knows no key, no limit and no JSON.
func runFront(ctx context.Context, logger *slog.Logger, arguments []string) error {
	flags := flag.NewFlagSet("nullengine front", flag.ContinueOnError)
	address := flags.String("http", "127.0.0.1:0", "where it listens")
	upstream := flags.String("upstream", "", "URL of what stands behind")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *upstream == "" {
		return errors.New("--upstream is required: the URL of what stands behind")
	}
	target, err := url.Parse(*upstream)
	if err != nil {
		return err
	}
	listener, err := listen(logger, "http", *address)
	if err != nil {
		return err
	}
	server := newHTTPServer(newFront(target))
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case <-ctx.Done():
		return server.Close()
	case err := <-failed:
		return err
	}
}

func newFront(target *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite:   func(request *httputil.ProxyRequest) { request.SetURL(target) },
		Transport: &http.Transport{MaxIdleConns: idleUpstream, MaxIdleConnsPerHost: idleUpstream, DisableCompression: true},
	}
}
