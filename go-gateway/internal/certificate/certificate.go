// Package certificate is what a listener proves its name with: a certificate and its key, which are read again while it
// serves.
//
// Open connections stay as they are; each new one gets what is in force. It must not depend on HTTP.
package certificate

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"triptych.dev/gateway/internal/reread"
)

// Certificate is the one in force. It is safe for concurrent use.
type Certificate struct {
	*reread.Source[*tls.Certificate]
}

// Name is that of the source in log and metrics.
const Name = "certificate"

// files are stamps of both.
type files struct{ certificate, key reread.FileStamp }

// Open reads a certificate and its key, both in PEM.
func Open(ctx context.Context, certificatePath, keyPath string, now func() time.Time, logger *slog.Logger) (*Certificate, error) {
	c := &Certificate{reread.New(reread.Options[*tls.Certificate]{
		Name: Name, Place: certificatePath, Logger: logger,
		Stamp: func(context.Context) any {
			return files{reread.StampOf(certificatePath), reread.StampOf(keyPath)}
		},
		Read: func(context.Context) (*tls.Certificate, error) {
			pair, err := read(certificatePath, keyPath, now())
			if err == nil {
				logger.Info("a certificate is in force", "names", pair.Leaf.DNSNames, "addresses", pair.Leaf.IPAddresses,
					"issuer", pair.Leaf.Issuer.String(), "ends", pair.Leaf.NotAfter)
			}
			return pair, err
		},
	})}
	if err := c.Source.Open(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Check returns what is wrong with a certificate and its key.
func Check(certificatePath, keyPath string, now time.Time) error {
	_, err := read(certificatePath, keyPath, now)
	return err
}

// read returns a pair that belongs together. One that has ended is not taken: every client would refuse it.
func read(certificatePath, keyPath string, now time.Time) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(certificatePath, keyPath)
	if err != nil {
		return nil, fmt.Errorf("%s and %s are no certificate with its key: %w", certificatePath, keyPath, err)
	}
	if end := pair.Leaf.NotAfter; now.After(end) {
		return nil, fmt.Errorf("the certificate in %s ended at %s", certificatePath, end.Format(time.RFC3339))
	}
	return &pair, nil
}

// End is when the one in force ends.
func (c *Certificate) End() time.Time { return c.Content().Leaf.NotAfter }

// TLS returns a configuration that gives each new connection what is in force then.
func (c *Certificate) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.Content(), nil
		},
	}
}
