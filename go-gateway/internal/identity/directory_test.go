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
	"triptych.dev/gateway/internal/plans"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/reread"
	"triptych.dev/gateway/internal/store"
)

const plansYAML = "plans: {p: {requests_per_minute: 60}}\ntenants: {acme: {plan: p}, globex: {plan: p}}\n"

type fixture struct {
	*keysFixture
	directory *Directory
	reader    *brittleReader
	tenants   string
	log       *bytes.Buffer
}

// brittleReader is a store that can be made to fail.
type brittleReader struct {
	KeyReader
	failure error // of what is asked of it
	asked   int   // how often keys were asked for
}

// writeFile puts another file in the place of one, as editors do.
func writeFile(t *testing.T, path, content string) {
	t.Helper()
	fresh := path + ".new"
	if err := errors.Join(os.WriteFile(fresh, []byte(content), 0o600), os.Rename(fresh, path)); err != nil {
		t.Fatal(err)
	}
}

func (r *brittleReader) KeysVersion(ctx context.Context) (int64, error) {
	if r.failure != nil {
		return 0, r.failure
	}
	return r.KeyReader.KeysVersion(ctx)
}

func (r *brittleReader) Keys(ctx context.Context, tenant string) ([]store.Key, error) {
	if r.asked++; r.failure != nil {
		return nil, r.failure
	}
	return r.KeyReader.Keys(ctx, tenant)
}

// refresh looks at the sources one poll later.
func (f *fixture) refresh() {
	f.now = f.now.Add(reread.PollInterval)
	f.directory.keys.Refresh(f.Context(), f.now)
	f.directory.tenants.Refresh(f.Context(), f.now)
}

func openFixture(t *testing.T) (*fixture, Secret) {
	t.Helper()
	f := &fixture{keysFixture: newKeys(t), log: &bytes.Buffer{}}
	f.tenants = filepath.Join(t.TempDir(), "tenants.yaml")
	writeFile(t, f.tenants, plansYAML)
	key := f.create("acme")
	f.reader = &brittleReader{KeyReader: f.store}
	var err error
	f.directory, err = Open(t.Context(), f.reader, f.tenants, func() time.Time { return f.now }, slog.New(slog.NewTextHandler(f.log, nil)))
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
	second := f.create("globex")
	if got := f.outcome("Bearer " + second.Reveal()); got != "INVALID_API_KEY" {
		t.Fatalf("before the refresh: %s", got)
	}
	f.refresh()
	if got := f.outcome("Bearer " + second.Reveal()); got != "globex" {
		t.Errorf("a new key: %s", got)
	}
	f.revoke(key)
	writeFile(t, f.tenants, strings.Replace(plansYAML, "60", "61", 1))
	f.refresh()
	if got := f.outcome("Bearer " + key.Reveal()); got != "INVALID_API_KEY" {
		t.Errorf("a revoked key: %s", got)
	}
	principal, err := f.directory.Authenticate("Bearer " + second.Reveal())
	if err != nil || principal.Plan.Tenant[quota.Interactive].RequestsPerMinute != 61 {
		t.Errorf("a changed plan: %+v, %v", principal, err)
	}
	if id, _ := keyID(second); principal.KeyID != id || principal.Scopes.String() != "" {
		t.Errorf("got %+v", principal)
	}
}

func TestABrokenSourceChangesNothing(t *testing.T) {
	f, key := openFixture(t)
	breakages := map[string]func(){
		"keys":       func() { f.reader.failure = errors.New("no connection") },
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

func TestABrokenSourceKeepsNoChangeOfTheOtherFromCounting(t *testing.T) {
	f, key := openFixture(t)
	writeFile(t, f.tenants, "plans: [")
	f.refresh()
	f.revoke(key)
	fresh := f.create("globex")
	f.refresh()
	if got := f.outcome("Bearer " + key.Reveal()); got != "INVALID_API_KEY" {
		t.Errorf("a key that was revoked while the tenants file is broken: %s", got)
	}
	if got := f.outcome("Bearer " + fresh.Reveal()); got != "globex" {
		t.Errorf("a key that was made while the tenants file is broken: %s", got)
	}
	f.reader.failure = errors.New("no connection")
	writeFile(t, f.tenants, strings.Replace(plansYAML, "globex", "another", 1))
	f.refresh()
	if got := f.outcome("Bearer " + fresh.Reveal()); got != "INVALID_API_KEY" {
		t.Errorf("a tenant that was removed while the store is unavailable: %s", got)
	}
}

// Both are tried ever less often, and complained of once a minute.
func TestAFileThatCouldNotBeReadIsTriedAgain(t *testing.T) {
	f, _ := openFixture(t)
	writeFile(t, f.tenants, strings.Replace(plansYAML, "acme", "another", 1))
	readFile, tries, works := f.directory.tenants.Read, 0, false
	f.directory.tenants.Read = func(ctx context.Context) (plans.File, error) {
		if tries++; works {
			return readFile(ctx)
		}
		return plans.File{}, syscall.EMFILE // when no descriptors are left, a file can be looked at and not be read
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
	if stale := f.directory.Staleness(f.now); stale["tenants"] != 600*reread.PollInterval-reread.PollInterval || stale["keys"] != 0 {
		t.Errorf("stale: %v", stale)
	}
	works = true
	for range reread.MaxRetryInterval / reread.PollInterval {
		f.refresh()
	}
	if _, known := f.directory.tenants.Content().Tenants["another"]; !known {
		t.Error("it is not read")
	}
	if stale := f.directory.Staleness(f.now); stale["tenants"] != 0 {
		t.Errorf("stale: %v", stale)
	}
}

func TestAStoreThatIsBackCountsAtTheNextPoll(t *testing.T) {
	f, key := openFixture(t)
	f.revoke(key)
	f.reader.failure, f.reader.asked = errors.New("no connection"), 0
	for range 600 { // five minutes
		f.refresh()
	}
	if f.reader.asked < 10 || f.reader.asked > 20 {
		t.Errorf("its keys were asked for %d times in five minutes", f.reader.asked)
	}
	if got := f.outcome("Bearer " + key.Reveal()); got != "acme" {
		t.Errorf("what was last known is not kept: %s", got)
	}
	if stale := f.directory.Staleness(f.now); stale["keys"] != 600*reread.PollInterval-reread.PollInterval || stale["tenants"] != 0 {
		t.Errorf("stale: %v", stale)
	}
	if lines := strings.Count(f.log.String(), "level=ERROR"); lines < 4 || lines > 6 || !strings.Contains(f.log.String(), "no connection") {
		t.Errorf("%d lines in five minutes: %s", lines, f.log)
	}
	f.reader.failure = nil
	f.refresh()
	if got := f.outcome("Bearer " + key.Reveal()); got != "INVALID_API_KEY" {
		t.Errorf("a key that was revoked meanwhile: %s", got)
	}
	if stale := f.directory.Staleness(f.now); stale["keys"] != 0 {
		t.Errorf("stale: %v", stale)
	}
}

func TestKeysAreReadWhenTheyChangedAlone(t *testing.T) {
	f, _ := openFixture(t)
	f.reader.asked = 0
	for range 100 {
		f.refresh()
	}
	if f.reader.asked != 0 {
		t.Errorf("they were read %d times", f.reader.asked)
	}
	f.create("globex")
	f.refresh()
	if f.reader.asked != 1 {
		t.Errorf("they were read %d times", f.reader.asked)
	}
}

func TestAKeyExpires(t *testing.T) {
	f, _ := openFixture(t)
	key, err := f.keys.Create(t.Context(), "acme", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	f.refresh()
	f.now = now.Add(time.Hour - time.Millisecond)
	if got := f.outcome("Bearer " + key.Reveal()); got != "acme" {
		t.Errorf("before its end: %s", got)
	}
	f.now = now.Add(time.Hour) // nobody looks at the store
	if got := f.outcome("Bearer " + key.Reveal()); got != "INVALID_API_KEY" {
		t.Errorf("at its end: %s", got)
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
	f.directory.tenants.Read = func(context.Context) (plans.File, error) { panic("a bug") }
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
	if got := f.directory.tenants.Content().Tenants["acme"].Plan.Tenant[quota.Interactive].RequestsPerMinute; got != 99 {
		t.Errorf("the plan is %d", got)
	}
}

func TestOpenReportsFaultsOfBoth(t *testing.T) {
	reader := &brittleReader{KeyReader: newKeys(t).store, failure: errors.New("no connection")}
	_, err := Open(t.Context(), reader, filepath.Join(t.TempDir(), "tenants.yaml"), time.Now, slog.Default())
	if err == nil || !strings.Contains(err.Error(), "no connection") || !strings.Contains(err.Error(), "tenants.yaml") {
		t.Errorf("got %v", err)
	}
}

func TestWatchTakesANewKey(t *testing.T) {
	f, _ := openFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { f.directory.Watch(ctx); close(ended) }()
	key := f.create("globex")
	deadline := time.Now().Add(5 * time.Second)
	for f.outcome("Bearer "+key.Reveal()) != "globex" {
		if time.Now().After(deadline) {
			t.Fatal("the key was not taken in 5 s")
		}
		time.Sleep(reread.PollInterval / 10)
	}
	cancel()
	<-ended
}

// A database that hangs must not hold up the end of the gateway, nor be complained of then.
func TestWatchEndsWhileTheStoreHangs(t *testing.T) {
	f, _ := openFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan struct{}, 1)
	f.directory.keys.Stamp = func(ctx context.Context) any {
		asked <- struct{}{}
		<-ctx.Done()
		return nil
	}
	ended := make(chan struct{})
	go func() { f.directory.Watch(ctx); close(ended) }()
	<-asked
	cancel()
	<-ended
	if strings.Contains(f.log.String(), "level=ERROR") {
		t.Errorf("the log is %s", f.log)
	}
}
