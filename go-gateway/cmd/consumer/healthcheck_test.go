package main

import (
	"bytes"
	"strings"
	"testing"

	"triptych.dev/gateway/internal/command"
)

// asked is what `consumer healthcheck` ends with, which knows only the address of a listener.
func asked(t *testing.T, address string, more ...string) (status int, says string) {
	t.Helper()
	var stderr bytes.Buffer
	lookup := func(name string) (string, bool) { return address, name == "CONSUMER_METRICS_ADDRESS" }
	status = run(t.Context(), append([]string{"healthcheck"}, more...), lookup, new(bytes.Buffer), &stderr)
	return status, stderr.String()
}

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	server, gateway := startNATS(t), newGateway(t)
	port := freePort(t)
	c := startInside(t, arguments(t, server, gateway.URL, "--metrics-address", "127.0.0.1:"+port))
	eventually(t, "it listens", func() bool { return strings.Contains(c.log.String(), "listening") })
	if status, says := asked(t, "0.0.0.0:"+port); status != command.ExitFailed || !strings.Contains(says, "503") {
		t.Errorf("without its stream: %d %s", status, says)
	}
	newQueue(t, server.client())
	eventually(t, "it is ready", c.ready)
	if status, says := asked(t, "0.0.0.0:"+port); status != command.ExitOK {
		t.Errorf("while messages are fetched: %d %s", status, says)
	}
	if status, says := asked(t, "127.0.0.1:1", "--metrics-address", ":"+port); status != command.ExitOK {
		t.Errorf("with a flag: %d %s", status, says)
	}
	if status, says := asked(t, "nowhere"); status != command.ExitUsage || !strings.Contains(says, "--metrics-address") {
		t.Errorf("of no address: %d %s", status, says)
	}
	c.drained(t)
	if status, says := asked(t, "127.0.0.1:"+port); status != command.ExitFailed {
		t.Errorf("once it has ended: %d %s", status, says)
	}
}
