package tenants

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"triptych.dev/gateway/internal/adminapi"
)

// keyMaker is what the gateways' admin API does. It makes one key for all requests with the same once, and shows it a single time.
type keyMaker interface {
	CreateKey(ctx context.Context, once, tenant string, scopes []string) (adminapi.Key, error)
	RotateKey(ctx context.Context, once, id string, overlap time.Duration, scopes []string) (adminapi.Key, error)
	RevokeKey(ctx context.Context, id string) (adminapi.Key, error)
	FindKey(ctx context.Context, id string) (adminapi.Key, error)
}

// ended reports whether a key works no more, or will not for long since somebody else had it replaced.
func ended(key adminapi.Key, now time.Time) bool {
	return key.Revoked != nil || key.Expires != nil && now.Unix() >= *key.Expires
}

// maxToken is more than any admin token has, in bytes.
const maxToken = 1024

// tokenOf returns what reads the admin token from a file, at each request: it may change. Its errors say nothing of the content.
func tokenOf(path string) func() (string, error) {
	return func() (string, error) {
		file, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("reading the admin token: %w", err)
		}
		defer file.Close()
		content, err := io.ReadAll(io.LimitReader(file, maxToken+2))
		if err != nil {
			return "", fmt.Errorf("reading the admin token: %w", err)
		}
		token := strings.TrimSpace(string(content))
		if token == "" || len(token) > maxToken || strings.ContainsAny(token, " \t\r\n") {
			return "", fmt.Errorf("the admin token in %s must be one word of at most %d letters", path, maxToken)
		}
		return token, nil
	}
}

// What a gateway's refusal means.
func refusal(err error) (said adminapi.RefusedError, is bool) {
	return errors.AsType[adminapi.RefusedError](err)
}

// isAbout reports whether a gateway refuses what a field says.
func isAbout(err error, field string) bool {
	said, is := refusal(err)
	return is && said.Status == http.StatusBadRequest && said.Param == field
}

// isReused reports whether a request was made before, and differed.
func isReused(err error) bool {
	said, is := refusal(err)
	return is && said.Code == "idempotency_key_reused"
}

// trouble is why a gateway did not do what it was asked, as the condition tells it.
func trouble(err error) verdict {
	said, is := refusal(err)
	switch {
	case isAbout(err, "tenant"):
		return verdict{reasonNotYetKnown, "Gateways do not know the tenant yet: it takes them up to a minute or so to read their file again."}
	case !is, said.Status >= http.StatusInternalServerError, said.Status == http.StatusTooManyRequests, said.Code == "idempotency_in_flight":
		return verdict{reasonGatewayUnreachable, err.Error()}
	}
	return verdict{reasonGatewayRefuses, said.Message}
}
