package files

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/blob"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/store"
)

var acme = identity.Principal{Tenant: "acme"}

// keeper is files in a folder, at a time that the test says.
type keeper struct {
	*Files
	testing.TB
	folder string
	now    time.Time
}

func keep(t *testing.T, folder string) *keeper {
	t.Helper()
	records, err := store.Open(t.Context(), store.Options{Data: filepath.Join(folder, "data")}, store.Gateway)
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.OpenFolder(filepath.Join(folder, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{TB: t, folder: filepath.Join(folder, "blobs"), now: time.Now()}
	k.Files = New(Options{
		Store: records, Blobs: blobs, MaxBytes: 64 << 20, MaxUploads: 4, Now: func() time.Time { return k.now },
		Logger: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(func() { records.Close() })
	return k
}

func (k *keeper) upload(content io.Reader, about About) (store.File, error) {
	k.Helper()
	upload, err := k.Begin(k.Context(), acme, -1)
	if err != nil {
		return store.File{}, err
	}
	defer upload.Close()
	if err := upload.Write(k.Context(), content, about.Purpose); err != nil {
		return store.File{}, err
	}
	return upload.Finish(k.Context(), about, withoutKey)
}

func (k *keeper) blobs() int {
	k.Helper()
	names, err := filepath.Glob(filepath.Join(k.folder, "blobs", "*", "*"))
	if err != nil {
		k.Fatal(err)
	}
	return len(names)
}

func (k *keeper) checkReason(err error, want fault.Reason) {
	k.Helper()
	if err == nil || fault.Of(err).Reason != want {
		k.Errorf("got %v, want %s", err, want)
	}
}

func TestWhatExpiredIsSwept(t *testing.T) {
	k := keep(t, t.TempDir())
	data := About{Purpose: UserData, Name: "a", Lifetime: time.Hour}
	expiring, err := k.upload(strings.NewReader("a"), data)
	if err != nil {
		t.Fatal(err)
	}
	shared, err := k.upload(strings.NewReader("b"), data)
	if err != nil {
		t.Fatal(err)
	}
	data.Lifetime = 0
	kept, err := k.upload(strings.NewReader("b"), data) // the same content
	if err != nil {
		t.Fatal(err)
	}
	sweepAll := func() {
		t.Helper()
		for range sweepParts {
			if err := k.sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	k.now = k.now.Add(time.Hour - time.Second)
	sweepAll()
	if _, err := k.Find(t.Context(), "acme", expiring.ID); err != nil || k.blobs() != 2 {
		t.Errorf("before its time: %v, %d blobs", err, k.blobs())
	}
	k.now = k.now.Add(2 * time.Hour)
	_, err = k.Find(t.Context(), "acme", expiring.ID)
	k.checkReason(err, fault.FileNotFound)
	sweepAll()
	if k.blobs() != 1 {
		t.Errorf("%d blobs are left", k.blobs())
	}
	_, _, err = k.Open(t.Context(), "acme", shared.ID)
	k.checkReason(err, fault.FileNotFound)
	_, content, err := k.Open(t.Context(), "acme", kept.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	if text, err := io.ReadAll(content); err != nil || string(text) != "b" {
		t.Errorf("%q, %v", text, err)
	}
	if used, err := k.Store.FileUsage(t.Context(), "acme"); err != nil || used != (store.FileUsage{Files: 1, Bytes: 1}) {
		t.Errorf("%+v, %v", used, err)
	}
}

func TestRoomIsLeftFree(t *testing.T) {
	k := keep(t, t.TempDir())
	k.MinFree = 100
	free := int64(1000)
	k.free = func() (int64, error) { return free, nil }
	if upload, err := k.Begin(t.Context(), acme, 900); err != nil {
		t.Error(err)
	} else {
		upload.Close()
	}
	_, err := k.Begin(t.Context(), acme, 901)
	k.checkReason(err, fault.StorageFull)
	data := About{Purpose: UserData, Name: "a"}
	filling := readFunc(func(p []byte) (int, error) {
		free = 99 // others write too
		return len(p), nil
	})
	_, err = k.upload(filling, data)
	k.checkReason(err, fault.StorageFull)
	free = 1000
	if _, err := k.upload(strings.NewReader("a"), data); err != nil {
		t.Error(err)
	}
	if k.blobs() != 1 || k.uploads.Used() != 0 {
		t.Errorf("%d blobs, %d uploads", k.blobs(), k.uploads.Used())
	}
}

// Whoever finds no place for an upload is told how soon one of those that there are will have ended.
func TestTheWaitForAnUploadIsMeasured(t *testing.T) {
	k := keep(t, t.TempDir())
	for _, want := range []time.Duration{0, 6 * time.Second} {
		var uploads []*Upload
		for {
			upload, err := k.Begin(t.Context(), acme, -1)
			if err != nil {
				k.checkReason(err, fault.QueueFull)
				if got := fault.Of(err).RetryAfter; len(uploads) != 3 || got != want {
					t.Errorf("beside %d uploads: got %v, want %v", len(uploads), got, want)
				}
				break
			}
			uploads = append(uploads, upload)
		}
		k.now = k.now.Add(18 * time.Second)
		for _, upload := range uploads {
			upload.Close()
		}
	}
}

type observed struct{ files, bytes int64 }

func (o *observed) Stored(files, bytes int64) { *o = observed{files, bytes} }

func TestWhatIsStoredIsTold(t *testing.T) {
	k, told := keep(t, t.TempDir()), &observed{files: -1}
	k.Observer = told
	for i, content := range []string{"a", "a", "bcd"} {
		if _, err := k.upload(strings.NewReader(content), About{Purpose: UserData, Name: "a", Lifetime: time.Duration(i+1) * time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	for after, want := range []observed{{3, 5}, {2, 4}, {1, 3}, {0, 0}} {
		if err := k.sweep(t.Context()); err != nil || *told != want {
			t.Errorf("after %d hours: %+v, not %+v; %v", after, *told, want, err)
		}
		k.now = k.now.Add(time.Hour)
	}
}

// A plan has files expire that would stay, and lets none be kept for longer.
func TestAFileIsKeptForAsLongAsThePlanSays(t *testing.T) {
	k := keep(t, t.TempDir())
	kept := acme
	kept.Plan = identity.Plan{Name: "short", Retention: identity.Retention{Files: 2 * time.Hour}}
	for _, c := range []struct {
		asked, want time.Duration
	}{{0, 2 * time.Hour}, {time.Hour, time.Hour}, {2 * time.Hour, 2 * time.Hour}, {2*time.Hour + time.Second, -1}} {
		upload, err := k.Begin(t.Context(), kept, -1)
		if err != nil {
			t.Fatal(err)
		}
		if err := upload.Write(t.Context(), strings.NewReader("a"), UserData); err != nil {
			t.Fatal(err)
		}
		file, err := upload.Finish(t.Context(), About{Purpose: UserData, Name: "a", Lifetime: c.asked}, withoutKey)
		upload.Close()
		if refused := fault.Of(err); c.want < 0 {
			if refused.Reason != fault.InvalidValue || refused.Param != "expires_after[seconds]" || refused.Limit != 7200 || !strings.Contains(refused.Message, `"short"`) {
				t.Errorf("%v: %+v", c.asked, refused)
			}
		} else if err != nil || file.Expires.Sub(file.Created) != c.want {
			t.Errorf("%v: %+v, %v", c.asked, file, err)
		}
	}
}

type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func TestAnUploadThatIsNotFinishedLeavesNothing(t *testing.T) {
	k := keep(t, t.TempDir())
	upload, err := k.Begin(t.Context(), acme, -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := upload.Write(t.Context(), strings.NewReader("a"), ""); err != nil {
		t.Fatal(err)
	}
	_, err = upload.Finish(t.Context(), About{Purpose: Batch, Name: "a.jsonl"}, withoutKey)
	k.checkReason(err, fault.InvalidValue)
	upload.Close()
	torn := errors.New("torn")
	if _, err := k.upload(readFunc(func([]byte) (int, error) { return 0, torn }), About{Purpose: UserData}); !errors.Is(err, torn) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = k.Begin(ctx, acme, -1)
	k.checkReason(err, fault.Cancelled)
	if left, err := os.ReadDir(filepath.Join(k.folder, "tmp")); err != nil || len(left) != 0 || k.blobs() != 0 {
		t.Errorf("left %v, %d blobs, %v", left, k.blobs(), err)
	}
}

func TestIDsAreInTheOrderOfTime(t *testing.T) {
	at, last := time.Now(), ""
	for range 100 {
		at = at.Add(time.Millisecond)
		id := store.NewID("file-", at)
		if id <= last || len(id) != len("file-")+32 || id[len("file-")+12] != '7' {
			t.Errorf("%s after %s", id, last)
		}
		last = id
	}
}

// withoutKey keeps no answer.
func withoutKey(store.File) (*store.Answer, error) { return nil, nil }
