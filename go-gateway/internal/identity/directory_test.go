package identity

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"triptych.dev/gateway/internal/fault"
)

const plansYAML = "plans: {p: {requests_per_minute: 60}}\ntenants: {acme: {plan: p}, globex: {plan: p}}\n"

type fixture struct {
	directory *Directory
	keys      *KeysFile
	tenants   string
	log       *bytes.Buffer
	now       time.Time
}

// refresh looks at the files one poll later.
func (f *fixture) refresh() {
	f.now = f.now.Add(pollInterval)
	f.directory.refresh(f.now)
}

func openFixture(t *testing.T) (*fixture, Secret) {
	t.Helper()
	f := &fixture{keys: newKeysFile(t), log: &bytes.Buffer{}}
	f.tenants = filepath.Join(filepath.Dir(f.keys.path), "tenants.yaml")
	writeFile(t, f.tenants, plansYAML)
	key := mustCreate(t, f.keys, "acme")
	var err error
	f.directory, err = Open(f.keys.path, f.tenants, slog.New(slog.NewTextHandler(f.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return f, key
}

// outcome is the tenant's name, or the reason of the refusal.
func (f *fixture) outcome(authorization string) string {
	principal, err := f.directory.Authenticate(authorization)
	if err != nil {
		return string(fault.Of(err).Reason)
	}
	return principal.Tenant
}

func TestAuthenticate(t *testing.T) {
	f, secret := openFixture(t)
	key := secret.Reveal()
	swapped := key[:len(key)-1] + map[bool]string{true: "b", false: "a"}[strings.HasSuffix(key, "a")]
	cases := map[string]string{
		"Bearer " + key:              "acme",
		"bearer " + key:              "acme",
		"Bearer  " + key + " ":       "acme",
		"":                           "MISSING_API_KEY",
		"Basic YTpi":                 "MISSING_API_KEY",
		key:                          "MISSING_API_KEY",
		"Bearer":                     "INVALID_API_KEY",
		"Bearer ":                    "INVALID_API_KEY",
		"Bearer sk-other":            "INVALID_API_KEY",
		"Bearer " + swapped:          "INVALID_API_KEY",
		"Bearer " + key + "a":        "INVALID_API_KEY",
		"Bearer " + key + "\n" + key: "INVALID_API_KEY",
		"Bearer trip_00000000_" + strings.Repeat("0", secretLength): "INVALID_API_KEY",
		"Bearer " + strings.Repeat("x", 1<<20):                      "INVALID_API_KEY",
	}
	for authorization, want := range cases {
		if got := f.outcome(authorization); got != want {
			t.Errorf("%.40q: got %s, want %s", authorization, got, want)
		}
	}
}

func TestAKeyOfNoTenantIsRefused(t *testing.T) {
	f, key := openFixture(t)
	writeFile(t, f.tenants, strings.Replace(plansYAML, "acme", "another", 1))
	f.refresh()
	if got := f.outcome("Bearer " + key.Reveal()); got != "INVALID_API_KEY" {
		t.Errorf("got %s", got)
	}
}

func TestRefreshTakesChanges(t *testing.T) {
	f, key := openFixture(t)
	second := mustCreate(t, f.keys, "globex")
	if got := f.outcome("Bearer " + second.Reveal()); got != "INVALID_API_KEY" {
		t.Fatalf("before the refresh: %s", got)
	}
	f.refresh()
	if got := f.outcome("Bearer " + second.Reveal()); got != "globex" {
		t.Errorf("a new key: %s", got)
	}
	id, _ := keyID(key)
	if err := f.keys.Revoke(id); err != nil {
		t.Fatal(err)
	}
	writeFile(t, f.tenants, strings.Replace(plansYAML, "60", "61", 1))
	f.refresh()
	if got := f.outcome("Bearer " + key.Reveal()); got != "INVALID_API_KEY" {
		t.Errorf("a revoked key: %s", got)
	}
	principal, err := f.directory.Authenticate("Bearer " + second.Reveal())
	if err != nil || principal.Plan.Tenant[Interactive].RequestsPerMinute != 61 {
		t.Errorf("a changed plan: %+v, %v", principal, err)
	}
	if id, _ := keyID(second); principal.KeyID != id || !principal.Has(ScopeInference) || principal.Has("another") {
		t.Errorf("got %+v", principal)
	}
}

func TestABrokenFileChangesNothing(t *testing.T) {
	f, key := openFixture(t)
	breakages := map[string]func(){
		"keys":       func() { writeFile(t, f.keys.path, "{") },
		"tenants":    func() { writeFile(t, f.tenants, "plans: 1") },
		"no tenants": func() { os.Remove(f.tenants) },
	}
	for name, damage := range breakages {
		f.log.Reset()
		damage()
		for range 3 {
			f.refresh()
		}
		if got := f.outcome("Bearer " + key.Reveal()); got != "acme" {
			t.Errorf("%s: got %s", name, got)
		}
		if lines := strings.Count(f.log.String(), "level=ERROR"); lines != 1 {
			t.Errorf("%s: %d lines in the log: %s", name, lines, f.log)
		}
	}
}

func TestABrokenFileKeepsNoChangeOfTheOtherFromCounting(t *testing.T) {
	f, key := openFixture(t)
	writeFile(t, f.tenants, "plans: [")
	f.refresh()
	id, _ := keyID(key)
	if err := f.keys.Revoke(id); err != nil {
		t.Fatal(err)
	}
	fresh := mustCreate(t, f.keys, "globex")
	f.refresh()
	if got := f.outcome("Bearer " + key.Reveal()); got != "INVALID_API_KEY" {
		t.Errorf("a key that was revoked while the tenants file is broken: %s", got)
	}
	if got := f.outcome("Bearer " + fresh.Reveal()); got != "globex" {
		t.Errorf("a key that was made while the tenants file is broken: %s", got)
	}
	writeFile(t, f.keys.path, "{")
	writeFile(t, f.tenants, strings.Replace(plansYAML, "globex", "another", 1))
	f.refresh()
	if got := f.outcome("Bearer " + fresh.Reveal()); got != "INVALID_API_KEY" {
		t.Errorf("a tenant that was removed while the keys file is broken: %s", got)
	}
}

// When no descriptors are left, a file can be looked at and not be read.
func TestAFileThatCouldNotBeReadIsTriedAgain(t *testing.T) {
	f, key := openFixture(t)
	id, _ := keyID(key)
	if err := f.keys.Revoke(id); err != nil {
		t.Fatal(err)
	}
	readKeysFile, tries, works := f.directory.keys.read, 0, false
	f.directory.keys.read = func(path string) (map[string]KeyRecord, error) {
		if tries++; works {
			return readKeysFile(path)
		}
		return nil, syscall.EMFILE
	}
	for range 600 { // five minutes
		f.refresh()
	}
	if tries < 10 || tries > 20 {
		t.Errorf("%d tries in five minutes", tries)
	}
	if lines := strings.Count(f.log.String(), "level=ERROR"); lines < 4 || lines > 6 {
		t.Errorf("%d lines in five minutes: %s", lines, f.log)
	}
	if stale := f.directory.Staleness(f.now); stale["keys"] != 600*pollInterval-pollInterval || stale["tenants"] != 0 {
		t.Errorf("stale: %v", stale)
	}
	works = true
	for range maxRetryInterval / pollInterval {
		f.refresh()
	}
	if got := f.outcome("Bearer " + key.Reveal()); got != "INVALID_API_KEY" {
		t.Errorf("a revoked key: %s", got)
	}
	if stale := f.directory.Staleness(f.now); stale["keys"] != 0 {
		t.Errorf("stale: %v", stale)
	}
}

func TestAFileThatIsMendedCountsAtOnce(t *testing.T) {
	f, key := openFixture(t)
	damaged := f.tenants + ".good"
	for range 10 { // until retries are seldom
		writeFile(t, f.tenants+".bad", "plans: 1")
		if err := errors.Join(os.Rename(f.tenants, damaged), os.Rename(f.tenants+".bad", f.tenants)); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			f.refresh()
		}
		if err := os.Rename(damaged, f.tenants); err != nil { // the very file that is in force
			t.Fatal(err)
		}
		f.refresh()
		if stale := f.directory.Staleness(f.now); stale["tenants"] != 0 || f.outcome("Bearer "+key.Reveal()) != "acme" {
			t.Fatalf("stale: %v", stale)
		}
	}
}

func TestAParserThatPanicsIsABrokenFile(t *testing.T) {
	f, key := openFixture(t)
	f.directory.tenants.read = func(string) (map[string]Tenant, error) { panic("a bug") }
	writeFile(t, f.tenants, plansYAML+"\n")
	f.refresh()
	if got := f.outcome("Bearer " + key.Reveal()); got != "acme" || !strings.Contains(f.log.String(), "a bug") {
		t.Errorf("got %s, logged %s", got, f.log)
	}
}

func TestRefreshSeesAnEqualSizeAndTime(t *testing.T) {
	f, _ := openFixture(t)
	info, err := os.Stat(f.tenants)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, f.tenants, strings.Replace(plansYAML, "60", "99", 1))
	if err := os.Chtimes(f.tenants, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	f.refresh()
	if got := f.directory.tenants.content()["acme"].Plan.Tenant[Interactive].RequestsPerMinute; got != 99 {
		t.Errorf("the plan is %d", got)
	}
}

func TestOpenReportsFaultsOfBothFiles(t *testing.T) {
	folder := t.TempDir()
	_, err := Open(filepath.Join(folder, "keys.json"), filepath.Join(folder, "tenants.yaml"), slog.Default())
	if err == nil || !strings.Contains(err.Error(), "keys.json") || !strings.Contains(err.Error(), "tenants.yaml") {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(err.Error(), "gateway keys create") {
		t.Errorf("no remedy in: %v", err)
	}
}

func TestWatchTakesANewKey(t *testing.T) {
	f, _ := openFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { f.directory.Watch(ctx); close(ended) }()
	key := mustCreate(t, f.keys, "globex")
	deadline := time.Now().Add(5 * time.Second)
	for f.outcome("Bearer "+key.Reveal()) != "globex" {
		if time.Now().After(deadline) {
			t.Fatal("the key was not taken in 5 s")
		}
		time.Sleep(pollInterval / 10)
	}
	cancel()
	<-ended
}
