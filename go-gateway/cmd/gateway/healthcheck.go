package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// healthcheckTimeout is below the 30 s and above the usual few ms; a ready gateway answers from memory.
const healthcheckTimeout = 3 * time.Second

// healthcheck asks the gateway on this machine whether it is ready, for containers that have no shell. It asks the
// operators' listener, which answers also while clients hold all connections to the API.
func healthcheck(ctx context.Context, t terminal, arguments []string) error {
	settings, err := t.parse(newFlags("healthcheck"), arguments, "metrics-address")
	if err != nil {
		return err
	}
	address, err := callable(settings.MetricsAddress)
	if err != nil {
		return usageError{err}
	}
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return usageError{err}
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // and no proxy
	reply, err := client.Do(request)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", reply.Status)
	}
	return nil
}

// callable is where to call what listens at an address.
func callable(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), err
}
