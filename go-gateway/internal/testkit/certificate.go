package testkit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Certificate is one for this machine, signed by itself, with its key; both are in PEM, and in files.
type Certificate struct {
	PEM, KeyPEM   []byte
	Path, KeyPath string
	Serial        *big.Int
}

// NewCertificate makes one in a folder of the test, which ends at a time.
func NewCertificate(t testing.TB, end time.Time) Certificate {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	must(err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "gateway"},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore: end.Add(-240 * time.Hour), NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	folder := t.TempDir()
	made := Certificate{
		PEM:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		KeyPEM: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		Path:   filepath.Join(folder, "tls.crt"), KeyPath: filepath.Join(folder, "tls.key"), Serial: serial,
	}
	must(os.WriteFile(made.Path, made.PEM, 0o600))
	must(os.WriteFile(made.KeyPath, made.KeyPEM, 0o600))
	return made
}

// Client returns a TLS configuration that trusts these certificates and no others.
func Client(trusted ...Certificate) *tls.Config {
	roots := x509.NewCertPool()
	for _, one := range trusted {
		roots.AppendCertsFromPEM(one.PEM)
	}
	return &tls.Config{RootCAs: roots, ServerName: "localhost"}
}
