package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

// tryCopy copies the site's database.
func (s *site) tryCopy(arguments ...string) (status int, stdout, stderr string) {
	s.Helper()
	return execute(s.T, append(append([]string{"data", "copy"}, arguments...), s.store...)...)
}

// batchInput is a file of so many requests.
func batchInput(lines int) string {
	var text strings.Builder
	for i := range lines {
		fmt.Fprintf(&text, `{"custom_id":"%d","method":"POST","url":"/v1/embeddings","body":{"model":"%s","input":"text %d"}}`+"\n", i, testkit.ModelName, i)
	}
	return text.String()
}

// jsonRequest sends JSON, or asks where body is empty, and reads the reply.
func jsonRequest[Reply any](t *testing.T, method, api, path, key, body string) (reply Reply) {
	t.Helper()
	status, text := sendJSON(t, method, api, path, key, body)
	if err := json.Unmarshal([]byte(text), &reply); err != nil || status != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	return reply
}

type batchReply struct {
	ID     string
	Status string
	Output string                                 `json:"output_file_id"`
	Counts struct{ Total, Completed, Failed int } `json:"request_counts"`
}

// TestWorkGoesOnInPostgres: files, keys and a batch that is half done are copied from SQLite, and gateways on PostgreSQL have
// the former and finish the latter, each line once.
func TestWorkGoesOnInPostgres(t *testing.T) {
	const lines = 1500
	url := inPostgres(t).store[1]
	site := newSite(t)
	key := site.createKey()
	site.hotpath.SetEmbed(func(ctx context.Context, request *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		if !testkit.IsCanary(request) {
			time.Sleep(time.Millisecond) // so that the batch is not over at once
		}
		return testkit.Embed(ctx, request)
	})
	slow := []string{"--batch-segments", "1", "--batch-lines", "2"}
	child, log := site.process(slow...)
	api := address(t, log, "http")
	kept := uploadFile(t, api, key, "kept")
	input := uploadAs(t, api, key, "batch", "in.jsonl", batchInput(lines))
	eventually(t, "ready", func() bool { return get(api, "/readyz") == http.StatusOK })
	batch := jsonRequest[batchReply](t, http.MethodPost, api, "/v1/batches", key,
		`{"input_file_id":"`+input+`","endpoint":"/v1/embeddings","completion_window":"24h"}`)
	eventually(t, "a segment is done", func() bool {
		return jsonRequest[batchReply](t, http.MethodGet, api, "/v1/batches/"+batch.ID, key, "").Counts.Completed > 0
	})
	if status, _, stderr := site.tryCopy("--to", url); status != exitUsage || !strings.Contains(stderr, "stop that one first") {
		t.Errorf("beneath a gateway: %d %s", status, stderr)
	}
	site.signal(child, syscall.SIGTERM)
	if err := child.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}

	urlFile := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(urlFile, []byte(url+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	status, stdout, stderr := site.tryCopy("--to-file", urlFile)
	blobs := filepath.Join(site.data(), "blobs")
	if status != exitOK || !strings.Contains(stdout, "segment") || !strings.Contains(stdout, "with --blobs "+blobs) || !strings.Contains(stderr, `"act":"data copied"`) {
		t.Fatalf("%d %s%s", status, stdout, stderr)
	}
	if strings.Contains(stdout+stderr, testkit.PostgresPassword) {
		t.Errorf("the password is in\n%s%s", stdout, stderr)
	}
	for what, said := range map[string]string{"copied again": refusal(site.tryCopy("--to", url)), "served": refusal(execute(t, site.serveArguments()...))} {
		if !strings.Contains(said, "was copied to PostgreSQL at 127.0.0.1") || strings.Contains(said, testkit.PostgresPassword) {
			t.Errorf("%s: %s", what, said)
		}
	}
	if stdout, _ := site.succeed("data", "check", "--hashes"); !strings.Contains(stdout, "good: the contents of files") {
		t.Errorf("the source is %s", stdout)
	}

	site.store = []string{"--database-url", url}
	if stdout, _ := site.succeed("data", "check", "--hashes", "--blobs", blobs); !strings.Contains(stdout, "good: the contents of files") {
		t.Errorf("the copy is %s", stdout)
	}
	child, log = site.process(append(slow, "--blobs", blobs)...)
	api = address(t, log, "http")
	eventually(t, "the end of the batch", func() bool {
		batch = jsonRequest[batchReply](t, http.MethodGet, api, "/v1/batches/"+batch.ID, key, "")
		return batch.Status == "completed"
	})
	if batch.Counts.Completed != lines || batch.Counts.Failed != 0 {
		t.Errorf("it has %+v", batch.Counts)
	}
	_, output := fileRequest(t, http.MethodGet, api, "/v1/files/"+batch.Output+"/content", key, "")
	if got := strings.Count(output, "\n"); got != lines {
		t.Errorf("%d lines came out", got)
	}
	for i := range lines {
		if got := strings.Count(output, fmt.Sprintf(`"custom_id":"%d"`, i)); got != 1 {
			t.Fatalf("line %d came out %d times", i, got)
		}
	}
	if _, content := fileRequest(t, http.MethodGet, api, "/v1/files/"+kept+"/content", key, ""); content != "kept" {
		t.Errorf("the file has %q", content)
	}
	site.signal(child, syscall.SIGTERM)
	_ = child.Wait()
}

// refusal is what a command says that is to be refused.
func refusal(status int, _, stderr string) string {
	if status != exitUsage {
		return fmt.Sprintf("status %d: %s", status, stderr)
	}
	return stderr
}

func TestACopyWantsTheContentsOfFiles(t *testing.T) {
	url := inPostgres(t).store[1]
	site := newSite(t)
	site.keepFile("lost")
	found, err := filepath.Glob(filepath.Join(site.data(), "blobs", "blobs", "*", "*"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	if err := os.Remove(found[0]); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := site.tryCopy("--to", url); status != exitFailed || !strings.Contains(stderr, "nothing was copied") {
		t.Errorf("%d %s", status, stderr)
	}
	if said := refusal(site.tryCopy("--to", url, "--blobs", "off")); !strings.Contains(said, "--blobs names it") {
		t.Errorf("it says %s", said)
	}
	for _, arguments := range [][]string{{}, {"--to", url, "--to-file", "f"}} {
		if said := refusal(site.tryCopy(arguments...)); !strings.Contains(said, "usage: gateway data copy --to URL") {
			t.Errorf("%q: %s", arguments, said)
		}
	}
}

func TestProgressIsToldEachSecond(t *testing.T) {
	var told strings.Builder
	now := time.Now()
	tell := tellProgress(&told, func() time.Time { return now })
	for done := range int64(5) {
		tell("job", done, 9)
		now = now.Add(400 * time.Millisecond)
	}
	if want := "copied 3 of 9 rows, now of table job\n"; told.String() != want {
		t.Errorf("told %q", told.String())
	}
}
