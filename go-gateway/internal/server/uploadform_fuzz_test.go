package server

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/blob"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/store"
)

// FuzzUploadForm holds that a form either becomes a file that may be, or is refused for a fault of its own, and that a
// refused one leaves nothing.
func FuzzUploadForm(f *testing.F) {
	whole := purposePart + filePart + "content\r\n--b--\r\n"
	for _, seed := range []string{
		whole, strings.ReplaceAll(whole, "\r\n", "\n"), whole[:len(whole)-4], purposePart + filePart + "\r\n--b", "preamble\r\n" + whole, "", "--b--\r\n", filePart,
		strings.Replace(whole, "user_data", "batch", 1), strings.Replace(whole, "filename=\"a\"", "filename*=UTF-8''%e2%82%ac", 1),
		strings.Replace(whole, "filename=\"a\"", "filename=\"../a\"", 1), purposePart + whole, filePart + "content\r\n" + purposePart + "--b--",
		strings.Replace(whole, "form-data; name=\"file\"", "form-data; name=\"file\"\r\nContent-Transfer-Encoding: quoted-printable", 1),
		"--b\r\nContent-Disposition: form-data; name=\"" + strings.Repeat("x", 20_000),
	} {
		f.Add(seed)
	}
	folder := f.TempDir()
	records, err := store.Open(f.Context(), store.Options{Data: filepath.Join(folder, "data")}, store.Gateway)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { records.Close() })
	blobs, err := blob.OpenFolder(filepath.Join(folder, "blobs"))
	if err != nil {
		f.Fatal(err)
	}
	kept := files.New(files.Options{Store: records, Blobs: blobs, MaxBytes: 1 << 16, MaxUploads: 64, Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
	server := &Server{Options: Options{Files: kept}}
	f.Fuzz(func(t *testing.T, body string) {
		request := httptest.NewRequest(http.MethodPost, filesRoute, nil)
		request.Header.Set("Content-Type", "multipart/form-data; boundary=b")
		ex := &exchange{server: server, request: request, writer: httptest.NewRecorder()}
		form, err := newUploadForm(ex, io.LimitReader(strings.NewReader(body), 1<<17))
		if err != nil {
			t.Fatal(err)
		}
		upload, err := kept.Begin(t.Context(), identity.Principal{Tenant: "acme"}, -1)
		if err != nil {
			t.Fatal(err)
		}
		about, err := form.receive(t.Context(), upload)
		upload.Close()
		if left, _ := filepath.Glob(filepath.Join(folder, "blobs", "*", "put-*")); len(left) > 0 {
			t.Fatalf("left %v", left)
		}
		if err == nil {
			if about.Check() != nil || !strings.Contains(body, "--b--") {
				t.Fatalf("%q became %+v", body, about)
			}
			return
		}
		refused, is := errors.AsType[*fault.Fault](err)
		if !is || refused.Reason == fault.Internal || refused.Reason == fault.NotEnabled {
			t.Fatalf("%q: %v", body, err)
		}
	})
}
