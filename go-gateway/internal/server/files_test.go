package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/quota"
)

// field is one of a form; with a file's name it is a file.
type field struct{ name, filename, value string }

// formOf returns a form's body and its Content-Type.
func formOf(t testing.TB, fields ...field) (body, kind string) {
	t.Helper()
	var buffer bytes.Buffer
	form := multipart.NewWriter(&buffer)
	for _, f := range fields {
		create := form.CreateFormField
		if f.filename != "" {
			create = func(name string) (io.Writer, error) { return form.CreateFormFile(name, f.filename) }
		}
		writer, err := create(f.name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(writer, f.value)
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.String(), form.FormDataContentType()
}

func (g *gateway) upload(tenant string, fields ...field) reply {
	g.Helper()
	body, kind := formOf(g, fields...)
	return g.do(http.MethodPost, filesRoute, body, "Authorization", "Bearer "+g.keys[tenant], "Content-Type", kind)
}

// fileReply is a file as OpenAI's SDKs read it.
type fileReply struct {
	ID, Object, Filename, Purpose, Status string
	Bytes                                 int64
	CreatedAt                             int64  `json:"created_at"`
	ExpiresAt                             *int64 `json:"expires_at"`
}

func (g *gateway) uploaded(tenant string, fields ...field) (file fileReply) {
	g.Helper()
	got := g.upload(tenant, fields...)
	if err := json.Unmarshal(got.body, &file); err != nil || got.status != http.StatusOK {
		g.Fatalf("%d %s", got.status, got.body)
	}
	return file
}

func (g *gateway) ask(tenant, method, path string, headers ...string) reply {
	g.Helper()
	return g.do(method, path, "", append([]string{"Authorization", "Bearer " + g.keys[tenant]}, headers...)...)
}

// checkStored holds how many contents there are, and that no upload is half there.
func (g *gateway) checkStored(want int) {
	g.Helper()
	kept, err := filepath.Glob(filepath.Join(g.blobs, "blobs", "*", "*"))
	if err != nil || len(kept) != want {
		g.Errorf("%d contents are kept, want %d", len(kept), want)
	}
	g.eventually("no temporary", func() bool {
		torn, err := filepath.Glob(filepath.Join(g.blobs, "tmp", "*"))
		return err == nil && len(torn) == 0
	})
}

const twoLines = "{\"custom_id\":\"a\"}\n{\"custom_id\":\"b\"}\r\n"

func TestAFilesLife(t *testing.T) {
	g := startGateway(t)
	purpose, content := field{"purpose", "", "batch"}, field{"file", "requests.JSONL", twoLines}
	for name, fields := range map[string][]field{"as Python sends it": {purpose, content}, "as Node sends it": {content, purpose}} {
		file := g.uploaded("acme", fields...)
		if file.Object != "file" || file.Filename != "requests.JSONL" || file.Purpose != "batch" || file.Bytes != int64(len(twoLines)) ||
			file.Status != "processed" || file.CreatedAt == 0 || file.ExpiresAt != nil || !fileID.MatchString(file.ID) {
			t.Errorf("%s: %+v", name, file)
		}
		path := filesRoute + "/" + file.ID
		var found fileReply
		if got := g.ask("acme", http.MethodGet, path); got.status != http.StatusOK || json.Unmarshal(got.body, &found) != nil || found != file {
			t.Errorf("%s: got %d %s", name, got.status, got.body)
		}
		got := g.ask("acme", http.MethodGet, path+"/content")
		if got.status != http.StatusOK || string(got.body) != twoLines || got.header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("%s: got %d %s %v", name, got.status, got.body, got.header)
		}
		if got := g.ask("acme", http.MethodHead, path+"/content"); got.status != http.StatusOK || got.header.Get("Content-Length") != fmt.Sprint(len(twoLines)) {
			t.Errorf("%s: got %d %v", name, got.status, got.header)
		}
		if got := g.ask("acme", http.MethodDelete, path); got.status != http.StatusOK || string(got.body) != `{"id":"`+file.ID+`","object":"file","deleted":true}` {
			t.Errorf("%s: got %d %s", name, got.status, got.body)
		}
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			if got := g.ask("acme", method, path); got.status != http.StatusNotFound || got.err.Code != "file_not_found" {
				t.Errorf("%s, deleted: %d %s", name, got.status, got.body)
			}
		}
	}
	g.checkStored(1) // until it is swept
}

func TestATenantSeesItsOwnFilesAlone(t *testing.T) {
	g := startGateway(t)
	file := g.uploaded("acme", field{"purpose", "", "user_data"}, field{"file", "a", "secret"})
	for _, path := range []string{filesRoute + "/" + file.ID, filesRoute + "/" + file.ID + "/content"} {
		if got := g.ask("tiny", http.MethodGet, path); got.status != http.StatusNotFound || strings.Contains(string(got.body), "secret") {
			t.Errorf("GET %s: %d %s", path, got.status, got.body)
		}
	}
	if got := g.ask("tiny", http.MethodDelete, filesRoute+"/"+file.ID); got.status != http.StatusNotFound {
		t.Errorf("DELETE: %d %s", got.status, got.body)
	}
	if got := g.ask("tiny", http.MethodGet, filesRoute); string(got.body) != `{"object":"list","data":[],"first_id":null,"last_id":null,"has_more":false}` {
		t.Errorf("the list is %s", got.body)
	}
	if got := g.ask("acme", http.MethodGet, filesRoute+"/"+file.ID+"/content"); string(got.body) != "secret" {
		t.Errorf("its own is %d %s", got.status, got.body)
	}
}

func TestFilesAreListed(t *testing.T) {
	g := startGateway(t)
	var ids []string
	for i := range 3 {
		purpose := []string{"user_data", "batch"}[i%2]
		file := g.uploaded("acme", field{"purpose", "", purpose}, field{"file", "a.jsonl", "{}"},
			field{"expires_after[anchor]", "", "created_at"}, field{"expires_after[seconds]", "", "3600"})
		if file.ExpiresAt == nil || *file.ExpiresAt != file.CreatedAt+3600 {
			t.Errorf("expires: %+v", file)
		}
		ids = append(ids, file.ID)
		g.eventually("the next millisecond", func() bool { return g.Files.Now().UnixMilli() > lastMillisecond(t, file.ID) })
	}
	for query, want := range map[string][]string{
		"": {ids[2], ids[1], ids[0]}, "?order=asc": ids, "?limit=2": {ids[2], ids[1]}, "?limit=1&after=" + ids[2]: {ids[1]},
		"?order=asc&after=" + ids[0]: {ids[1], ids[2]}, "?purpose=batch": {ids[1]}, "?purpose=batch_output": nil,
	} {
		var list struct {
			Data    []fileReply
			HasMore bool   `json:"has_more"`
			LastID  string `json:"last_id"`
		}
		got := g.get(filesRoute + query)
		if err := json.Unmarshal(got.body, &list); err != nil {
			t.Fatalf("%s: %d %s", query, got.status, got.body)
		}
		var listed []string
		for _, file := range list.Data {
			listed = append(listed, file.ID)
		}
		if strings.Join(listed, " ") != strings.Join(want, " ") || list.HasMore != strings.Contains(query, "limit") || (len(want) > 0 && list.LastID != want[len(want)-1]) {
			t.Errorf("%s: %s", query, got.body)
		}
	}
}

// lastMillisecond is when an id was made.
func lastMillisecond(t *testing.T, id string) (at int64) {
	t.Helper()
	if _, err := fmt.Sscanf(strings.TrimPrefix(id, "file-")[:12], "%x", &at); err != nil {
		t.Fatal(err)
	}
	return at
}

func TestAPartOfAFile(t *testing.T) {
	g := startGateway(t)
	path := filesRoute + "/" + g.uploaded("acme", field{"purpose", "", "user_data"}, field{"file", `a"; X: "ü.txt`, "0123456789"}).ID + "/content"
	tag := g.get(path).header.Get("Etag")
	for asked, want := range map[string]string{
		"bytes=2-4": "234 bytes 2-4/10", "bytes=8-": "89 bytes 8-9/10", "bytes=-3": "789 bytes 7-9/10", "bytes=0-99": "0123456789 ",
		"bytes=-99": "0123456789 ", "bytes=4-2": "0123456789 ", "bytes=0-1,3-4": "0123456789 ", "lines=1-2": "0123456789 ", "bytes=-": "0123456789 ",
	} {
		got := g.ask("acme", http.MethodGet, path, "Range", asked)
		if said := string(got.body) + " " + got.header.Get("Content-Range"); said != want || (got.status == http.StatusPartialContent) == strings.HasSuffix(want, " ") {
			t.Errorf("%s: %d %q", asked, got.status, said)
		}
	}
	for condition, want := range map[string]int{tag: http.StatusPartialContent, `"other"`: http.StatusOK} {
		if got := g.ask("acme", http.MethodGet, path, "Range", "bytes=2-4", "If-Range", condition); got.status != want {
			t.Errorf("If-Range %s: %d", condition, got.status)
		}
	}
	kind, parameters, err := mime.ParseMediaType(g.get(path).header.Get("Content-Disposition"))
	if err != nil || kind != "attachment" || !strings.HasSuffix(parameters["filename"], "ü.txt") {
		t.Errorf("%s %v, %v", kind, parameters, err)
	}
}

func TestATenantsShare(t *testing.T) {
	plan := identity.Plan{StoredBytes: 10, StoredFiles: 2, Tenant: identity.ClassLimits{quota.Limits{RequestsPerMinute: 100}}}
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.Authenticator = someone{Tenant: "acme", Plan: plan} })
	small, large := field{"file", "a", "12345"}, field{"file", "a", "123456"}
	purpose := field{"purpose", "", "user_data"}
	first := g.uploaded("acme", purpose, small)
	if got := g.upload("acme", purpose, large); got.status != http.StatusTooManyRequests || !strings.Contains(got.err.Message, "stored_bytes") ||
		got.header.Get("X-Should-Retry") != "false" {
		t.Errorf("bytes: %d %s", got.status, got.body)
	}
	g.uploaded("acme", purpose, small)
	if got := g.upload("acme", purpose, field{"file", "a", ""}); got.status != http.StatusTooManyRequests || !strings.Contains(got.err.Message, "stored_files") {
		t.Errorf("files: %d %s", got.status, got.body)
	}
	g.ask("acme", http.MethodDelete, filesRoute+"/"+first.ID)
	g.uploaded("acme", purpose, small)
	g.checkStored(1) // all have the same content
}

func TestALargeFileIsRefused(t *testing.T) {
	g := startGateway(t)
	purpose := field{"purpose", "", "user_data"}
	for _, size := range []int{4<<20 + 1, 5 << 20} { // within what the form may have around it, and beyond
		got := g.upload("acme", purpose, field{"file", "a", strings.Repeat("x", size)})
		if got.status != http.StatusRequestEntityTooLarge || !strings.Contains(got.err.Message, fmt.Sprint(4<<20)) {
			t.Errorf("%d: %d %s", size, got.status, got.body)
		}
	}
	g.checkStored(0)
	g.uploaded("acme", purpose, field{"file", "a", strings.Repeat("x", 4<<20)})
}
