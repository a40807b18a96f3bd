// Package jwks keeps the public keys by which an issuer's tokens are verified: a JSON Web Key Set (RFC 7517) in a file or
// at a URL, read again so that a key counts while it is in the set.
//
// It must not depend on tokens, or on who may do what.
package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Algorithms are those of which keys are taken, by their names in RFC 7518 and RFC 8037.
var Algorithms = []string{rs256, es256, edDSA}

const (
	rs256 = "RS256"
	es256 = "ES256"
	edDSA = "EdDSA"
)

const (
	maxKeys    = 64
	maxIDBytes = 256
	// A shorter modulus is weak, and a longer one costs whoever sends tokens less than it costs us.
	minRSABits, maxRSABits = 2048, 8192
	maxRSAExponent         = 1<<31 - 1
	coordinateBytes        = 32 // of P-256
)

// name is what tokens say of their key: its id is not theirs to combine with an algorithm that it is not for.
type name struct{ id, algorithm string }

// keySet has the keys that can be used.
type keySet map[name]crypto.PublicKey

// writtenSet is a set as it is written.
type writtenSet struct {
	Keys *[]writtenKey `json:"keys"`
}

type writtenKey struct {
	Type      string         `json:"kty"`
	ID        string         `json:"kid"`
	Use       string         `json:"use"`
	Algorithm string         `json:"alg"`
	Curve     string         `json:"crv"`
	N         string         `json:"n"`
	E         string         `json:"e"`
	X         string         `json:"x"`
	Y         string         `json:"y"`
	D         jsontext.Value `json:"d"`
	K         jsontext.Value `json:"k"`
}

// parse reads a set. Keys of other kinds are passed over, as RFC 7517 wants it; an empty set is one of which every key was
// removed, and one without a key for us is a mistake.
func parse(data []byte) (keySet, error) {
	var set writtenSet
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("it is no JSON Web Key Set: %w", err)
	}
	if set.Keys == nil {
		return nil, errors.New(`it is no JSON Web Key Set: it has no "keys"`)
	}
	if len(*set.Keys) > maxKeys {
		return nil, fmt.Errorf("it has %d keys; at most %d are taken", len(*set.Keys), maxKeys)
	}
	keys := keySet{}
	var passed []error
	for i, written := range *set.Keys {
		if written.D != nil || written.K != nil {
			return nil, fmt.Errorf("keys[%d] is private: whoever reads it can make tokens; publish public keys alone", i)
		}
		of, key, err := written.read()
		if err != nil {
			passed = append(passed, fmt.Errorf("keys[%d]: %w", i, err))
			continue
		}
		if _, twice := keys[of]; twice {
			return nil, fmt.Errorf("keys[%d]: another key has its id %.64q too", i, written.ID)
		}
		keys[of] = key
	}
	if len(keys) == 0 && len(passed) > 0 {
		return nil, fmt.Errorf("none of its keys can be used: %w", errors.Join(passed...))
	}
	return keys, nil
}

// read returns a key, or why it cannot be used.
func (w *writtenKey) read() (name, crypto.PublicKey, error) {
	var key crypto.PublicKey
	var algorithm string
	var err error
	switch {
	case w.Type == "RSA":
		algorithm = rs256
		key, err = w.readRSA()
	case w.Type == "EC" && w.Curve == "P-256":
		algorithm = es256
		key, err = w.readP256()
	case w.Type == "OKP" && w.Curve == "Ed25519":
		algorithm = edDSA
		key, err = w.readEd25519()
	default:
		return name{}, nil, fmt.Errorf("it is of the kind %.32q %.32q", w.Type, w.Curve)
	}
	switch {
	case err != nil:
		return name{}, nil, err
	case w.Algorithm != "" && w.Algorithm != algorithm:
		return name{}, nil, fmt.Errorf("it is for %.32q, not for %s", w.Algorithm, algorithm)
	case w.Use != "" && w.Use != "sig":
		return name{}, nil, fmt.Errorf("its use is %.32q, not \"sig\"", w.Use)
	case w.ID == "" || len(w.ID) > maxIDBytes:
		return name{}, nil, fmt.Errorf("its id (\"kid\") has %d bytes; it must have 1 to %d", len(w.ID), maxIDBytes)
	}
	return name{w.ID, algorithm}, key, nil
}

func (w *writtenKey) readRSA() (crypto.PublicKey, error) {
	modulus, err := decode("n", w.N)
	if err != nil {
		return nil, err
	}
	exponent, err := decode("e", w.E)
	if err != nil {
		return nil, err
	}
	n, e := new(big.Int).SetBytes(modulus), new(big.Int).SetBytes(exponent)
	if bits := n.BitLen(); bits < minRSABits || bits > maxRSABits {
		return nil, fmt.Errorf("its modulus has %d bits; it must have %d to %d", bits, minRSABits, maxRSABits)
	}
	if !e.IsInt64() || e.Int64() < 3 || e.Int64() > maxRSAExponent || e.Bit(0) == 0 {
		return nil, errors.New("its exponent is no odd number from 3 to 2^31-1")
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}

func (w *writtenKey) readP256() (crypto.PublicKey, error) {
	point := []byte{4} // uncompressed
	for _, member := range []struct{ name, text string }{{"x", w.X}, {"y", w.Y}} {
		coordinate, err := decode(member.name, member.text)
		if err != nil {
			return nil, err
		}
		if len(coordinate) != coordinateBytes {
			return nil, fmt.Errorf("its %q has %d bytes, not %d", member.name, len(coordinate), coordinateBytes)
		}
		point = append(point, coordinate...)
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}

func (w *writtenKey) readEd25519() (crypto.PublicKey, error) {
	key, err := decode("x", w.X)
	if err == nil && len(key) != ed25519.PublicKeySize {
		err = fmt.Errorf("its \"x\" has %d bytes, not %d", len(key), ed25519.PublicKeySize)
	}
	return ed25519.PublicKey(key), err
}

func decode(member, text string) ([]byte, error) {
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(decoded) == 0 {
		return nil, fmt.Errorf("its %q is no base64url", member)
	}
	return decoded, nil
}
