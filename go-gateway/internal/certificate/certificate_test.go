package certificate

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/reread"
	"triptych.dev/gateway/internal/telemetry"
	"triptych.dev/gateway/internal/testkit"
)

// fixture is a certificate in force whose files are about to change.
type fixture struct {
	*testing.T
	*Certificate
	files testkit.Certificate
	now   time.Time
	log   *testkit.Log
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{T: t, now: time.Now(), log: &testkit.Log{}}
	f.files = testkit.NewCertificate(t, f.now.Add(time.Hour))
	opened, err := Open(t.Context(), f.files.Path, f.files.KeyPath, func() time.Time { return f.now }, telemetry.NewLogger(f.log, slog.LevelInfo))
	if err != nil {
		t.Fatal(err)
	}
	f.Certificate = opened
	return f
}

// poll looks at the files one interval later.
func (f *fixture) poll() {
	f.now = f.now.Add(reread.PollInterval)
	f.Refresh(f.Context(), f.now)
}

// isInForce holds that new connections get a certificate.
func (f *fixture) isInForce(want testkit.Certificate) {
	f.Helper()
	got, err := f.TLS().GetCertificate(&tls.ClientHelloInfo{})
	if err != nil || got.Leaf.SerialNumber.Cmp(want.Serial) != 0 {
		f.Errorf("serial %v, %v; want %v\n%s", got.Leaf.SerialNumber, err, want.Serial, f.log)
	}
}

func inPlace(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func byRename(t *testing.T, path string, content []byte) {
	t.Helper()
	inPlace(t, path+".new", content)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestAChangedPairIsTaken(t *testing.T) {
	for name, write := range map[string]func(*testing.T, string, []byte){"in place": inPlace, "by rename": byRename} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			fresh := testkit.NewCertificate(t, f.now.Add(2*time.Hour))
			write(t, f.files.Path, fresh.PEM)
			f.poll() // the key is still the old one's
			f.isInForce(f.files)
			if f.Staleness(f.now.Add(time.Second)) == 0 || !strings.Contains(f.log.String(), "are no certificate with its key") {
				t.Errorf("a pair that does not match goes unnoticed:\n%s", f.log)
			}
			write(t, f.files.KeyPath, fresh.KeyPEM)
			f.poll()
			f.isInForce(fresh)
			if f.Staleness(f.now) != 0 || !f.End().Equal(f.now.Add(2*time.Hour-2*reread.PollInterval).Truncate(time.Second)) {
				t.Errorf("stale for %v, ends at %v", f.Staleness(f.now), f.End())
			}
		})
	}
}

func TestAFolderThatIsSwappedAsKubernetesDoesIsTaken(t *testing.T) {
	f := newFixture(t)
	fresh := testkit.NewCertificate(t, f.now.Add(2*time.Hour))
	link := filepath.Join(t.TempDir(), "current")
	if err := os.Symlink(filepath.Dir(f.files.Path), link); err != nil {
		t.Fatal(err)
	}
	opened, err := Open(t.Context(), filepath.Join(link, "tls.crt"), filepath.Join(link, "tls.key"), time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	f.Certificate = opened
	if err := errors.Join(os.Symlink(filepath.Dir(fresh.Path), link+".new"), os.Rename(link+".new", link)); err != nil {
		t.Fatal(err)
	}
	f.poll()
	f.isInForce(fresh)
}

func TestABrokenPairKeepsTheLastGoodOne(t *testing.T) {
	ended := testkit.NewCertificate(t, time.Now().Add(-time.Hour))
	for name, spoil := range map[string]func(*fixture) error{
		"empty":  func(f *fixture) error { return os.WriteFile(f.files.Path, nil, 0o600) },
		"no PEM": func(f *fixture) error { return os.WriteFile(f.files.KeyPath, []byte("secret"), 0o600) },
		"gone":   func(f *fixture) error { return os.Remove(f.files.KeyPath) },
		"has ended": func(f *fixture) error {
			return errors.Join(os.WriteFile(f.files.Path, ended.PEM, 0o600), os.WriteFile(f.files.KeyPath, ended.KeyPEM, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			if err := spoil(f); err != nil {
				t.Fatal(err)
			}
			f.poll()
			f.isInForce(f.files)
			if f.Staleness(f.now.Add(time.Second)) == 0 || !strings.Contains(f.log.String(), "cannot be taken") || strings.Contains(f.log.String(), "secret") {
				t.Errorf("logged:\n%s", f.log)
			}
			if err := Check(f.files.Path, f.files.KeyPath, f.now); err == nil || !strings.Contains(err.Error(), filepath.Base(f.files.Path)) {
				t.Errorf("the check says %v", err)
			}
			if _, err := Open(t.Context(), f.files.Path, f.files.KeyPath, time.Now, slog.New(slog.DiscardHandler)); err == nil {
				t.Error("a gateway starts with it")
			}
		})
	}
}
