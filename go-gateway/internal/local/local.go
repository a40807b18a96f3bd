// Package local calls services that listen on this machine.
//
// It depends on the standard library alone: package command uses it, and with that modules of their own.
package local

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// timeout is below the 5 s that deploy/compose.yaml has for it, and above the usual few ms: a service answers from memory.
const timeout = 3 * time.Second

// Address is where to call what listens at an address.
func Address(listener string) (string, error) {
	host, port, err := net.SplitHostPort(listener)
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), err
}

// Probe is the question to what listens at an address whether it is ready. An error is the address's.
func Probe(listener string) (*http.Request, error) {
	address, err := Address(listener)
	if err != nil {
		return nil, err
	}
	return http.NewRequest(http.MethodGet, "http://"+address+"/readyz", nil)
}

// Ready asks that; an error says why the service is not ready.
func Ready(ctx context.Context, probe *http.Request) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // and no proxy
	reply, err := client.Do(probe.WithContext(ctx))
	if err != nil {
		return err
	}
	defer func() { _ = reply.Body.Close() }()
	if reply.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", reply.Status)
	}
	return nil
}
