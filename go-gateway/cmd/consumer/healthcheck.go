package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// healthcheckTimeout is below the 5 s that containers have for it; a consumer answers from memory.
const healthcheckTimeout = 3 * time.Second

// healthcheck asks the consumer on this machine whether messages are fetched, for containers that have no shell. Of settings
// it wants the listener's address alone.
func healthcheck(ctx context.Context, arguments []string, lookup func(string) (string, bool)) error {
	s := new(settings)
	flags := flag.NewFlagSet("healthcheck", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var rows []setting
	for _, row := range s.table() {
		if row.name == "metrics-address" {
			rows = append(rows, row)
		}
	}
	if err := read(flags, rows, arguments, lookup); err != nil {
		return usageError{err}
	}
	host, port, err := net.SplitHostPort(s.metricsAddress)
	if err != nil {
		return usageError{err}
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return usageError{err}
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // and no proxy
	reply, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = reply.Body.Close() }()
	if reply.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", reply.Status)
	}
	return nil
}
