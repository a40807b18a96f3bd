package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/nats-io/nats.go"
)

// refusal is a failure to connect that is of a setting, and names it. Without one (nil), the failure is waited for.
func refusal(s *settings, err error, hungUp bool) error {
	alert, _ := errors.AsType[*net.OpError](err)
	certificate := either(s.natsCertificate, "what nats-cert-file has", "clients without a certificate (nats-cert-file)")
	switch {
	case is[x509.HostnameError](err):
		return fmt.Errorf("NATS: the server's certificate is not for the host that nats-url names: %w", err)
	case is[*tls.CertificateVerificationError](err):
		return fmt.Errorf("NATS: the server's certificate is not one that %s vouches for: %w", either(s.natsCA, "nats-ca-file", "the system"), err)
	case alert != nil && alert.Op == "remote error": // a word of TLS
		word := alert.Err.Error()
		switch {
		case strings.Contains(word, "internal error"): // it is in trouble itself
			return nil
		case strings.Contains(word, "certificate"), strings.Contains(word, "access denied"):
			return fmt.Errorf("NATS: the server refuses %s: %w", certificate, err)
		}
		return fmt.Errorf("NATS: the server of nats-url does not agree to TLS with this client: %w", err)
	case hungUp:
		return fmt.Errorf("NATS: the server hangs up each time once it has seen our side of TLS, as one does that refuses %s: %w", certificate, err)
	case errors.Is(err, nats.ErrSecureConnWanted):
		return fmt.Errorf("NATS: the settings want TLS (nats-url, nats-ca-file, nats-cert-file), and the server has none: %w", err)
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked), errors.Is(err, nats.ErrAccountAuthExpired):
		credentials := either(s.natsCredentials, "what nats-creds-file has",
			either(s.natsUser, "nats-user with what nats-password-file has", either(s.natsTokenFile, "what nats-token-file has", "clients without credentials")))
		return fmt.Errorf("NATS: the server refuses %s: %w", credentials, err)
	case errors.Is(err, nats.ErrMixingWebsocketSchemes), is[*url.Error](err):
		return fmt.Errorf("NATS: nats-url: %w", err)
	}
	return nil
}

func is[E error](err error) bool {
	_, is := errors.AsType[E](err)
	return is
}

func either(given, then, otherwise string) string {
	if given != "" {
		return then
	}
	return otherwise
}
