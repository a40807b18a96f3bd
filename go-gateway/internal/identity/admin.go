package identity

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/reread"
)

// Bounds of an admin token: 32 letters are 128 bits even if they are hexadecimal digits.
const (
	minAdminToken = 32
	maxAdminToken = 1024
	// closedTo are the permissions that a token's file must not give: its group may read it, as the files of a secret that
	// is mounted into a container can be.
	closedTo = 0o027
)

// AdminToken is the credential of the admin API: what is in a file. It is read again when it changes.
type AdminToken struct {
	file *reread.Source[[sha256.Size]byte] // its hash
}

// OpenAdminToken reads the file.
func OpenAdminToken(ctx context.Context, path string, logger *slog.Logger) (*AdminToken, error) {
	t := &AdminToken{reread.NewFile("admin token", path, func(path string) ([sha256.Size]byte, error) {
		token, err := ReadAdminToken(path)
		return sha256.Sum256([]byte(token.Reveal())), err
	}, logger)}
	return t, t.file.Open(ctx)
}

// ReadAdminToken returns the token of a file. Its errors say nothing of the content.
func ReadAdminToken(path string) (Secret, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("admin-token-file: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return "", fmt.Errorf("admin-token-file: %w", err)
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("admin-token-file: %s is no file", path)
	case info.Mode().Perm()&closedTo != 0:
		return "", fmt.Errorf("admin-token-file: %s has mode %04o: others may read it, or its group may write it; chmod 600 closes it",
			path, info.Mode().Perm())
	}
	content, err := io.ReadAll(io.LimitReader(file, maxAdminToken+2))
	if err != nil {
		return "", fmt.Errorf("admin-token-file: %w", err)
	}
	token := strings.TrimSpace(string(content))
	printable := strings.Trim(token, base62+"+/=-_.~") == ""
	if _, isKey := keyID(Secret(token)); isKey {
		return "", fmt.Errorf("admin-token-file: %s holds an API key of a tenant; it must be a secret of its own", path)
	}
	if len(token) < minAdminToken || len(token) > maxAdminToken || !printable {
		return "", fmt.Errorf("admin-token-file: %s must hold one word of %d to %d letters, digits and any of +/=-_.~, as `openssl rand -hex 32` makes it",
			path, minAdminToken, maxAdminToken)
	}
	return Secret(token), nil
}

// Authenticate checks an Authorization header's value. Its error is a *fault.Fault.
func (t *AdminToken) Authenticate(authorization string) error {
	scheme, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return fault.New(fault.MissingAPIKey, "The admin token is required, as in \"Authorization: Bearer …\".")
	}
	sent, right := sha256.Sum256([]byte(strings.TrimSpace(token))), t.file.Content()
	if subtle.ConstantTimeCompare(sent[:], right[:]) != 1 {
		return fault.New(fault.InvalidAPIKey, "This is not the admin token. API keys of tenants are not good here.")
	}
	return nil
}

// Watch takes changes of the file until ctx ends.
func (t *AdminToken) Watch(ctx context.Context) { t.file.Watch(ctx) }

// Staleness is for how long changes of the file could not be taken.
func (t *AdminToken) Staleness(now time.Time) time.Duration { return t.file.Staleness(now) }
