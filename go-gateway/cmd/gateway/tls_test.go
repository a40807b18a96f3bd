package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"triptych.dev/gateway/internal/testkit"
)

// certified is a site whose API is served by TLS.
type certified struct {
	*site
	pair testkit.Certificate
	key  string // an API key
}

func newCertified(t *testing.T) *certified {
	s := newSite(t)
	return &certified{s, testkit.NewCertificate(t, time.Now().Add(time.Hour)), s.createKey()}
}

func (c *certified) serve(extra ...string) *served {
	c.Helper()
	return c.site.serve(c.flags(extra...)...)
}

func (c *certified) flags(extra ...string) []string {
	return append([]string{"--tls-certificate-file", c.pair.Path, "--tls-key-file", c.pair.KeyPath}, extra...)
}

// replace puts another pair in the place of the served one: the certificate first, so that for a while they do not match.
func (c *certified) replace(fresh testkit.Certificate) {
	c.Helper()
	for path, content := range map[string][]byte{c.pair.Path: fresh.PEM, c.pair.KeyPath: fresh.KeyPEM} {
		if err := errors.Join(os.WriteFile(path+".new", content, 0o600), os.Rename(path+".new", path)); err != nil {
			c.Fatal(err)
		}
	}
}

// client returns one of HTTP/1.1 or HTTP/2 that trusts some certificates.
func client(t *testing.T, protocol int, trusted ...testkit.Certificate) *http.Client {
	var protocols http.Protocols
	protocols.SetHTTP1(protocol == 1)
	protocols.SetHTTP2(protocol == 2)
	transport := &http.Transport{TLSClientConfig: testkit.Client(trusted...), Protocols: &protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// embedBy sends one request, and returns the reply's serial number of the certificate.
func embedBy(client *http.Client, address, key string) (serial string, err error) {
	body := strings.NewReader(`{"model":"` + testkit.ModelName + `","input":"a"}`)
	request, err := http.NewRequest(http.MethodPost, "https://"+address+"/v1/embeddings", body)
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+key)
	reply, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err == nil && reply.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s", reply.Status, text)
	}
	return reply.TLS.PeerCertificates[0].SerialNumber.String(), err
}

func TestTheAPIByTLS(t *testing.T) {
	site := newCertified(t)
	g := site.serve("--max-header-bytes", "8192")
	api, operations := address(t, g.log, "http"), address(t, g.log, "metrics")
	eventually(t, "ready", func() bool {
		status, _, _ := execute(t, "healthcheck", "--metrics-address", operations)
		return status == exitOK
	})
	for protocol := 1; protocol <= 2; protocol++ {
		one := client(t, protocol, site.pair)
		if _, err := embedBy(one, api, site.key); err != nil {
			t.Errorf("HTTP/%d: %v", protocol, err)
		}
		request, err := http.NewRequest(http.MethodGet, "https://"+api+"/livez", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Long", strings.Repeat("x", 20_000))
		reply, err := one.Do(request)
		if protocol == 2 { // the client knows the limit, and does not even try
			if err == nil || !strings.Contains(err.Error(), "larger than peer's advertised limit") {
				t.Errorf("HTTP/2: headers that are too large: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		reply.Body.Close()
		if reply.StatusCode != http.StatusRequestHeaderFieldsTooLarge || reply.ProtoMajor != 1 {
			t.Errorf("%s: headers that are too large get %s", reply.Proto, reply.Status)
		}
	}
	if got := get(api, "/livez"); got != http.StatusBadRequest {
		t.Errorf("plain HTTP gets %d", got)
	}
	old := testkit.Client(site.pair)
	old.MaxVersion = tls.VersionTLS11
	old.MinVersion = tls.VersionTLS10
	if connection, err := tls.Dial("tcp", api, old); err == nil {
		connection.Close()
		t.Error("TLS 1.1 is spoken")
	}
	if text := getText(operations, "/metrics"); !strings.Contains(text, "gateway_certificate_end_timestamp_seconds 1.") ||
		!strings.Contains(text, `gateway_source_stale_seconds{source="certificate"} 0`) {
		t.Error("the metrics do not tell of the certificate")
	}
	if strings.Contains(g.log.String(), "handshake") {
		t.Errorf("a handshake that failed is logged:\n%s", g.log)
	}
}

func TestACertificateIsReplacedUnderLoad(t *testing.T) {
	site := newCertified(t)
	fresh := []testkit.Certificate{testkit.NewCertificate(t, time.Now().Add(2*time.Hour)), testkit.NewCertificate(t, time.Now().Add(3*time.Hour))}
	trusted := append(fresh, site.pair)
	g := site.serve()
	api := address(t, g.log, "http")
	probe := client(t, 1, trusted...)
	probe.Transport.(*http.Transport).DisableKeepAlives = true
	eventually(t, "ready", func() bool { _, err := embedBy(probe, api, site.key); return err == nil })
	var clients sync.WaitGroup
	var answered atomic.Int64
	ended := make(chan struct{})
	for i := range 8 {
		one := client(t, 1+i%2, trusted...)
		one.Transport.(*http.Transport).DisableKeepAlives = i >= 4 // a new connection each time
		clients.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				if _, err := embedBy(one, api, site.key); err != nil {
					t.Error(err)
					return
				}
				answered.Add(1)
			}
		})
	}
	for _, next := range fresh {
		before := answered.Load()
		eventually(t, "load", func() bool { return answered.Load() > before+50 })
		site.replace(next)
		eventually(t, "the new certificate", func() bool {
			serial, err := embedBy(probe, api, site.key)
			return err == nil && serial == next.Serial.String()
		})
	}
	close(ended)
	clients.Wait()
}

func TestACertificateThatIsNoneKeepsTheGatewayFromStarting(t *testing.T) {
	site := newCertified(t)
	if err := os.WriteFile(site.pair.KeyPath, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := []string{"--tls-certificate-file", site.pair.Path, "--tls-key-file", site.pair.KeyPath}
	for _, extra := range [][]string{flags, append([]string{"--check-config"}, flags...)} {
		status, _, stderr := execute(t, site.serveArguments(extra...)...)
		if status != exitUsage || !strings.Contains(stderr, "are no certificate with its key") {
			t.Errorf("%q: %d %s", extra, status, stderr)
		}
	}
	if status, _, stderr := execute(t, site.serveArguments(flags[:2]...)...); status != exitUsage || !strings.Contains(stderr, "belong together") {
		t.Errorf("half a pair: %d %s", status, stderr)
	}
}
