package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"triptych.dev/gateway/internal/command"
)

// authority signs certificates for this machine.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	file        string // its certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "an authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.certificate, a.key = a.sign(template)
	a.file = fileWith(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})))
	return a
}

func (a *authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, _ = rand.Int(rand.Reader, big.NewInt(1<<62))
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	made, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(made)
	if err != nil {
		a.t.Fatal(err)
	}
	return parsed, key
}

// pair is a certificate and its key, in files.
func (a *authority) pair() (certificate, key string) {
	a.t.Helper()
	made, private := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "somebody"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return fileWith(a.t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Raw}))),
		fileWith(a.t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})))
}

// tlsOptions are those of a server that wants certificates of its clients, too.
func (a *authority) tlsOptions() []string {
	certificate, key := a.pair()
	return []string{"--tls", "--tlsverify", "--tlscert", certificate, "--tlskey", key, "--tlscacert", a.file}
}

// accounts are a server's configuration with an operator, and the credentials of one of its users, and of nobody's.
func accounts(t *testing.T) (configuration, good, stranger string) {
	t.Helper()
	must := func(text string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	pair := func(made nkeys.KeyPair, err error) (nkeys.KeyPair, string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		public, err := made.PublicKey()
		return made, must(public, err)
	}
	operator, operatorKey := pair(nkeys.CreateOperator())
	account := func(name string, streams bool) (key nkeys.KeyPair, public, token string) {
		key, public = pair(nkeys.CreateAccount())
		claims := jwt.NewAccountClaims(public)
		claims.Name = name
		if streams {
			claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
		}
		return key, public, must(claims.Encode(operator))
	}
	_, system, systemToken := account("SYS", false)
	signer, work, workToken := account("WORK", true)
	claims := jwt.NewOperatorClaims(operatorKey)
	claims.SystemAccount = system
	credentials := func(signer nkeys.KeyPair) string {
		user, public := pair(nkeys.CreateUser())
		seed, err := user.Seed()
		if err != nil {
			t.Fatal(err)
		}
		made, err := jwt.FormatUserConfig(must(jwt.NewUserClaims(public).Encode(signer)), seed)
		return fileWith(t, must(string(made), err))
	}
	strange, _ := pair(nkeys.CreateAccount())
	return fileWith(t, fmt.Sprintf("operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: {\n%s: %s\n%s: %s\n}\n",
		must(claims.Encode(operator)), system, system, systemToken, work, workToken)), credentials(signer), credentials(strange)
}

// secretsOf are what must be in no log: the lines of files but those that only frame them.
func secretsOf(t *testing.T, files ...string) (secrets []string) {
	t.Helper()
	for _, file := range files {
		content, err := secretOf("a test", file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(content) {
			if line = strings.TrimSpace(line); len(line) > 20 && !strings.HasPrefix(line, "-") && !strings.Contains(line, " ") {
				secrets = append(secrets, line)
			}
		}
	}
	return secrets
}

// TestASecureServer is one that encrypts, and wants to know its clients. A consumer works with it; where a certificate or a
// secret is wrong, it ends within a moment, with a line that names the setting, and tells no secret.
func TestASecureServer(t *testing.T) {
	gateway, ours, others := newGateway(t), newAuthority(t), newAuthority(t)
	certificate, key := ours.pair()
	strangeCertificate, strangeKey := others.pair()
	tls := []string{"--nats-ca-file", ours.file, "--nats-cert-file", certificate, "--nats-key-file", key}
	password, wrong := fileWith(t, "a-very-s3cret-password\n"), fileWith(t, "an-other-s3cret-password\n")
	configuration, credentials, stranger := accounts(t)
	user := []string{"--nats-user", "worker", "--nats-password-file", password}
	secrets := secretsOf(t, key, strangeKey, password, wrong, credentials, stranger)
	if len(secrets) < 8 {
		t.Fatalf("%d secrets", len(secrets))
	}
	server := startNATS(t, append(ours.tlsOptions(), "--user", "worker", "--pass", "a-very-s3cret-password")...)
	refusals := []struct {
		name, says string
		given      []string
	}{
		{"an authority that did not sign it", "nats-ca-file", append([]string{"--nats-ca-file", others.file, "--nats-cert-file", certificate, "--nats-key-file", key}, user...)},
		{"the system's authorities", "the system", append([]string{"--nats-cert-file", certificate, "--nats-key-file", key}, user...)},
		{"another name", "the host that nats-url names", append(tls[:len(tls):len(tls)], "--nats-url", strings.Replace(server.url(), "127.0.0.1", "localhost", 1))},
		{"no certificate of its own", "nats-cert-file", append([]string{"--nats-ca-file", ours.file}, user...)},
		{"a stranger's certificate", "nats-cert-file", append([]string{"--nats-ca-file", ours.file, "--nats-cert-file", strangeCertificate, "--nats-key-file", strangeKey}, user...)},
		{"a wrong password", "nats-password-file", append(tls[:len(tls):len(tls)], "--nats-user", "worker", "--nats-password-file", wrong)},
		{"no password", "without credentials", tls},
	}
	check := func(name, says string, given []string) {
		t.Helper()
		began := time.Now()
		status, log := ends(t, arguments(t, server, gateway.URL, given...))
		var told []string
		for line := range strings.Lines(log) {
			if !strings.HasPrefix(line, "{") {
				told = append(told, line)
			}
		}
		if took := time.Since(began); status != command.ExitUsage || took > 10*time.Second || len(told) != 1 || !strings.Contains(told[0], says) {
			t.Errorf("%s: status %d after %v:\n%s", name, status, took, log)
		}
		for _, secret := range secrets {
			if strings.Contains(log, secret) {
				t.Errorf("%s: a secret is told", name)
			}
		}
	}
	for _, refused := range refusals {
		check(refused.name, refused.says, refused.given)
	}
	work := func(given []string, connect ...nats.Option) {
		t.Helper()
		queue := newQueue(t, server.client(append(connect, nats.RootCAs(ours.file), nats.ClientCert(certificate, key))...))
		queue.mustSend("one", "a text")
		c := startInside(t, arguments(t, server, gateway.URL, given...))
		eventually(t, "it is done", func() bool { return count(t, queue.results) == 1 })
		c.drained(t)
		for _, secret := range secrets {
			if strings.Contains(c.log.String(), secret) {
				t.Error("a secret is in the log")
			}
		}
	}
	work(append(tls[:len(tls):len(tls)], user...), nats.UserInfo("worker", "a-very-s3cret-password"))
	server.kill()

	server = startNATS(t, append(ours.tlsOptions(), "--config", configuration)...)
	check("a stranger's credentials", "nats-creds-file", append(tls[:len(tls):len(tls)], "--nats-creds-file", stranger))
	check("a file of another kind", "is no file of credentials", append(tls[:len(tls):len(tls)], "--nats-creds-file", password))
	work(append(tls[:len(tls):len(tls)], "--nats-creds-file", credentials), nats.UserCredentials(credentials))
	server.kill()

	server = startNATS(t)
	check("TLS where there is none", "has none", append(tls[:len(tls):len(tls)], "--nats-url", strings.Replace(server.url(), "nats:", "tls:", 1)))
}
