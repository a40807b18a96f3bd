package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"triptych.dev/gateway/internal/command"
)

// ends runs a consumer that is to end by itself, and returns its status and what it has written.
func ends(t *testing.T, arguments []string) (status int, log string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // stopped by then, it has status 0
	defer cancel()
	var written bytes.Buffer
	status = run(ctx, arguments, func(string) (string, bool) { return "", false }, new(bytes.Buffer), &written)
	return status, written.String()
}

// front is before a server, and treats each connection as the next of its manners says; the last one is for all that follow.
type front struct {
	address string
	met     atomic.Int32
}

func newFront(t *testing.T, manners ...func(net.Conn)) *front {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	f := &front{address: listener.Addr().String()}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go manners[min(int(f.met.Add(1)), len(manners))-1](connection)
		}
	}()
	return f
}

func (f *front) url() string { return "nats://" + f.address }

// leaving is a server that goes away before it has said anything.
func leaving(connection net.Conn) { _ = connection.Close() }

// resetting is a server that refuses the client's certificate, so that what TLS says of that is lost.
func resetting(t *testing.T, a *authority) func(net.Conn) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(a.pair())
	if err != nil {
		t.Fatal(err)
	}
	return func(connection net.Conn) {
		_, _ = fmt.Fprintf(connection, "INFO {\"server_id\":\"a\",\"version\":\"2.15.3\",\"max_payload\":1048576,\"tls_required\":true,\"tls_verify\":true}\r\n")
		_ = tls.Server(connection, &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert}).Handshake()
		_ = connection.(*net.TCPConn).SetLinger(0)
		_ = connection.Close()
	}
}

// passing hands on to a server.
func passing(server *natsServer) func(net.Conn) {
	return func(connection net.Conn) {
		behind, err := net.Dial("tcp", "127.0.0.1:"+server.port)
		if err == nil {
			go func() { _, _ = io.Copy(connection, behind); _ = connection.Close() }()
			_, _ = io.Copy(behind, connection)
			_ = behind.Close()
		}
	}
}

// A refusal of the certificate may be no more than a reset. A few of them in a row are one; fewer are of a server that stops.
func TestResetsInPlaceOfARefusal(t *testing.T) {
	t.Parallel()
	gateway, ours := newGateway(t), newAuthority(t)
	certificate, key := ours.pair()
	server := startNATS(t, ours.tlsOptions()...)
	given := arguments(t, server, gateway.URL, "--nats-ca-file", ours.file, "--nats-cert-file", certificate, "--nats-key-file", key)

	reset := resetting(t, ours)
	hostile := newFront(t, reset)
	status, log := ends(t, append(given, "--nats-url", hostile.url()))
	if status != command.ExitUsage || !strings.Contains(log, "\nconsumer: NATS: the server hangs up") || !strings.Contains(log, "nats-cert-file") || hostile.met.Load() != hangUps {
		t.Errorf("status %d after %d connections:\n%s", status, hostile.met.Load(), log)
	}

	unsteady := newFront(t, reset, reset, leaving, passing(server))
	c := startInside(t, append(given, "--nats-url", unsteady.url()))
	eventually(t, "it is let in", func() bool { return strings.Contains(c.log.String(), "waiting is over") })
}

// A wrong secret is told also by a server that was away at first.
func TestARefusalAfterAnOutage(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t)
	server := startNATS(t, "--user", "worker", "--pass", "a-s3cret")
	server.kill()
	c := startInside(t, arguments(t, server, gateway.URL, "--nats-user", "worker", "--nats-password-file", fileWith(t, "an-other")))
	eventually(t, "it waits", func() bool { return strings.Contains(c.log.String(), `"for":"NATS connection"`) })
	server.start()
	select {
	case err := <-c.ended:
		if !is[command.UsageError](err) || !strings.Contains(err.Error(), "nats-password-file") {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("it waits, though it is refused")
	}
}

// What is no fault of a setting is waited for: a server that has no room replies in the middle of TLS, and in plain text.
func TestAFullServerIsWaitedFor(t *testing.T) {
	t.Parallel()
	gateway, ours := newGateway(t), newAuthority(t)
	certificate, key := ours.pair()
	configuration := fileWith(t, "max_connections: 1\n")
	server := startNATS(t, append(ours.tlsOptions(), "--config", configuration)...)
	tls := []string{"--nats-ca-file", ours.file, "--nats-cert-file", certificate, "--nats-key-file", key}
	first := startInside(t, arguments(t, server, gateway.URL, tls...))
	eventually(t, "it is let in, and misses its stream", func() bool { return strings.Contains(first.log.String(), "stream WORK") })
	second := startInside(t, arguments(t, server, gateway.URL, tls...))
	eventually(t, "it waits", func() bool { return strings.Contains(second.log.String(), `"for":"NATS connection"`) })
	first.drained(t)
	eventually(t, "it is let in", func() bool { return strings.Contains(second.log.String(), "waiting is over") })
}

// Stopped while it waits for its first connection, also in the middle of an attempt, it ends at once.
func TestItStopsWhileItWaitsForNATS(t *testing.T) {
	t.Parallel()
	gateway, server := newGateway(t), startNATS(t)
	server.kill()
	away := startInside(t, arguments(t, server, gateway.URL))
	eventually(t, "it waits", func() bool { return strings.Contains(away.log.String(), `"for":"NATS connection"`) })
	held := make(chan net.Conn, 8)
	silent := newFront(t, func(connection net.Conn) { held <- connection })
	mute := startInside(t, arguments(t, server, gateway.URL, "--nats-url", silent.url()))
	connection := <-held
	for name, c := range map[string]*inside{"away": away, "mute": mute} {
		if took := c.drained(t); took > 3*time.Second { // an attempt may take 5 s
			t.Errorf("%s: it ended after %v", name, took)
		}
	}
	_ = connection.Close()
}

func TestTokenFile(t *testing.T) {
	server, gateway := startNATS(t, "--auth", "s3cret-token"), newGateway(t)
	queue := newQueue(t, server.client(natsToken("s3cret-token")))
	queue.mustSend("one", "a text")
	path := fileWith(t, "an-0ld-token")
	given := arguments(t, server, gateway.URL, "--nats-token-file", path)
	if status, log := ends(t, given); status != command.ExitUsage || !strings.Contains(log, "nats-token-file") || strings.Contains(log, "an-0ld-token") {
		t.Errorf("status %d with a wrong token:\n%s", status, log)
	}

	// Once it was let in, it waits.
	server.kill()
	server.options = []string{"--auth", "an-0ld-token"}
	server.start()
	c := startInside(t, given)
	eventually(t, "it is let in", c.ready)
	server.kill()
	server.options = []string{"--auth", "s3cret-token"}
	server.start()
	eventually(t, "it is refused", func() bool { return strings.Contains(strings.ToLower(c.log.String()), "authorization") })
	if err := os.WriteFile(path, []byte("s3cret-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is done with the new token", func() bool { return count(t, queue.results) == 1 })
	if strings.Contains(c.log.String(), "s3cret-token") || strings.Contains(c.log.String(), "an-0ld-token") {
		t.Error("the token is in the log")
	}
}
