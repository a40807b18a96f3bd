package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// natsOptions have the connection come back whatever happens, with what is in the files then.
func (c *consumer) natsOptions() ([]nats.Option, error) {
	s := c.settings
	options := []nats.Option{
		nats.Name("consumer " + s.consumer),
		nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(func(attempts int) time.Duration {
			limit := min(backOffBase<<min(attempts, 10), backOffMost/3)
			return limit/4 + rand.N(limit)
		}),
		nats.Timeout(5 * time.Second), nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(2),
		nats.ReconnectBufSize(-1), // what cannot be sent is an error at once, and tried again by us
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				c.logger.Warn("NATS is away", "error", err.Error())
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { c.trouble.report(context.Background(), "NATS connection", err) }),
		nats.ReconnectHandler(func(*nats.Conn) {
			c.trouble.over("NATS connection")
			c.logger.Info("NATS is back")
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.logger.Warn("NATS", "error", err.Error()) }),
	}
	if !strings.HasPrefix(s.natsURL, "ws://") { // which a TLS configuration would have encrypted
		options = append(options, func(o *nats.Options) error {
			o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, VerifyConnection: func(tls.ConnectionState) error {
				c.trusted.Store(true)
				return nil
			}}
			return nil
		})
	}
	var faults []error
	read := func(name, path string) func() string {
		if _, err := secretOf(name, path); err != nil {
			faults = append(faults, err)
		}
		return func() string {
			secret, err := secretOf(name, path)
			if err != nil {
				c.logger.Error("a secret cannot be read", "error", err.Error())
			}
			return secret
		}
	}
	switch {
	case s.natsCredentials != "":
		if _, err := secretOf("nats-creds-file", s.natsCredentials); err != nil {
			faults = append(faults, err)
		} else if err := checkCredentials(s.natsCredentials); err != nil {
			faults = append(faults, err)
		}
		options = append(options, nats.UserCredentials(s.natsCredentials))
	case s.natsTokenFile != "":
		options = append(options, nats.TokenHandler(read("nats-token-file", s.natsTokenFile)))
	case s.natsUser != "":
		password := read("nats-password-file", s.natsPasswordFile)
		options = append(options, nats.UserInfoHandler(func() (string, string) { return s.natsUser, password() }))
	}
	if s.natsCA != "" {
		if _, err := certificates("nats-ca-file", s.natsCA); err != nil {
			faults = append(faults, err)
		}
		options = append(options, nats.RootCAs(s.natsCA))
	}
	if s.natsCertificate != "" {
		if _, err := tls.LoadX509KeyPair(s.natsCertificate, s.natsKey); err != nil {
			faults = append(faults, fmt.Errorf("nats-cert-file: %w", err))
		}
		options = append(options, nats.ClientCert(s.natsCertificate, s.natsKey))
	}
	return options, errors.Join(faults...)
}

// checkCredentials wants a user's JWT and its seed. What is said of them repeats nothing of either.
func checkCredentials(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("nats-creds-file: %w", err)
	}
	_, noToken := nkeys.ParseDecoratedJWT(content)
	_, noSeed := nkeys.ParseDecoratedUserNKey(content)
	if noToken != nil || noSeed != nil {
		return fmt.Errorf("nats-creds-file: %s is no file of credentials, with the JWT and the seed of a user", path)
	}
	return nil
}

func gatewayTransport(s *settings) (http.RoundTripper, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone() // with the environment's proxies
	transport.MaxIdleConnsPerHost = s.concurrency
	if s.gatewayCA != "" {
		roots, err := certificates("gateway-ca-file", s.gatewayCA)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return transport, nil
}

func secretOf(name, path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	secret := strings.TrimSpace(string(content))
	if secret == "" {
		return "", fmt.Errorf("%s: %s is empty", name, path)
	}
	return secret, nil
}

func certificates(name, path string) (*x509.CertPool, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("%s: %s has no certificate in PEM", name, path)
	}
	return pool, nil
}
