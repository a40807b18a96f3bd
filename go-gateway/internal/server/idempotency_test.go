package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/identity"
)

const keyHeader = "Idempotency-Key"

func (g *gateway) uploadOnce(tenant, key string, fields ...field) reply {
	g.Helper()
	body, kind := formOf(g, fields...)
	return g.do(http.MethodPost, filesRoute, body, "Authorization", "Bearer "+g.keys[tenant], "Content-Type", kind, keyHeader, key)
}

func (g *gateway) checkReplay(what string, got, first reply) {
	g.Helper()
	if got.status != first.status || string(got.body) != string(first.body) || got.header.Get("Idempotent-Replayed") != "true" ||
		first.header.Get("Idempotent-Replayed") != "" || got.header.Get("X-Request-Id") == first.header.Get("X-Request-Id") {
		g.Errorf("%s: %d %s %v, and first %d %s", what, got.status, got.body, got.header, first.status, first.body)
	}
}

func (g *gateway) checkReused(got reply, differing string) {
	g.Helper()
	if got.status != http.StatusConflict || got.err.Code != "idempotency_key_reused" || !strings.Contains(got.err.Message, differing+" differs") {
		g.Errorf("%d %s, and not that %s differs", got.status, got.body, differing)
	}
}

func TestABatchIsCreatedOnceForItsKey(t *testing.T) {
	g := startGateway(t)
	file := g.requests("acme", 2)
	body := fmt.Sprintf(`{"input_file_id":%q,"endpoint":"/v1/embeddings","completion_window":"24h","metadata":{"a":"b"}}`, file)
	// As OpenAI's SDKs send JSON again, and in another order of fields.
	again := fmt.Sprintf(`{"endpoint":"/v1/embeddings", "completion_window":"24h","metadata":{"a":"b"},"input_file_id":%q}`, file)
	first := g.post(batchesRoute, body, keyHeader, "k")
	created := g.readBatch(first)
	g.checkReplay("repeated", g.post(batchesRoute, body, keyHeader, "k"), first)
	if got := g.post(batchesRoute+"/"+created.ID+"/cancel", ""); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if got := g.ask("acme", http.MethodDelete, filesRoute+"/"+file); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	g.checkReplay("after it was cancelled, and its file deleted", g.post(batchesRoute, again, keyHeader, "k"), first)
	g.checkReused(g.post(batchesRoute, strings.Replace(body, `"b"`, `"c"`, 1), keyHeader, "k"), `"metadata"`)
	g.checkReused(g.post(batchesRoute, strings.Replace(body, `,"metadata":{"a":"b"}`, ``, 1), keyHeader, "k"), `"metadata"`)
	other := g.requests("metered", 1)
	if got := g.readBatch(g.do(http.MethodPost, batchesRoute, strings.Replace(body, file, other, 1), "Authorization", "Bearer "+g.keys["metered"], keyHeader, "k")); got.ID == created.ID {
		t.Error("the key is another tenant's")
	}
	list := g.get(batchesRoute)
	if strings.Count(string(list.body), `"object":"batch"`) != 1 {
		t.Errorf("%s", list.body)
	}
}

func TestAFileIsUploadedOnceForItsKey(t *testing.T) {
	g := startGateway(t)
	purpose, content := field{"purpose", "", "batch"}, field{"file", "requests.jsonl", twoLines}
	first := g.uploadOnce("acme", "k", purpose, content)
	if first.status != http.StatusOK {
		t.Fatalf("%d %s", first.status, first.body)
	}
	g.checkReplay("with another boundary", g.uploadOnce("acme", "k", purpose, content), first)
	g.checkReplay("in another order", g.uploadOnce("acme", "k", content, purpose), first)
	g.checkReused(g.uploadOnce("acme", "k", purpose, field{"file", "requests.jsonl", twoLines + "{}\n"}), `"file"`)
	g.checkReused(g.uploadOnce("acme", "k", purpose, field{"file", "others.jsonl", twoLines}), `"filename"`)
	g.checkReused(g.uploadOnce("acme", "k", field{"purpose", "", "user_data"}, content, field{"expires_after[anchor]", "", "created_at"},
		field{"expires_after[seconds]", "", "3600"}), `"expires_after", "purpose"`)
	g.checkStored(1)
	if list := g.get(filesRoute); strings.Count(string(list.body), `"object":"file"`) != 1 {
		t.Errorf("%s", list.body)
	}
}

// A repetition of what succeeded is answered so, whatever has become of the limits meanwhile; a refusal is not kept.
func TestLimitsAreForWhatIsNew(t *testing.T) {
	plan := identity.Plan{StoredFiles: 1, Tenant: identity.ClassLimits{{RequestsPerMinute: 1000}}}
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.Authenticator = someone{Tenant: "acme", Plan: plan} })
	upload := func(key, content string) reply {
		return g.uploadOnce("acme", key, field{"purpose", "", "user_data"}, field{"file", "a", content})
	}
	first := upload("k", "1")
	g.checkReplay("the share is used up", upload("k", "1"), first)
	g.checkReused(upload("k", "2"), `"file"`)
	if got := upload("other", "2"); got.status != http.StatusTooManyRequests {
		t.Errorf("%d %s", got.status, got.body)
	}
	var file fileReply
	if err := json.Unmarshal(first.body, &file); err != nil {
		t.Fatal(err)
	}
	if got := g.ask("acme", http.MethodDelete, filesRoute+"/"+file.ID); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := upload("other", "2"); got.status != http.StatusOK || got.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestOfRequestsAtOnceWithOneKeyOneCreates(t *testing.T) {
	g := startGateway(t)
	var group sync.WaitGroup
	bodies := make(chan string, 16)
	for range 16 {
		group.Go(func() {
			for {
				got := g.uploadOnce("acme", "k", field{"purpose", "", "user_data"}, field{"file", "a", "content"})
				if got.status == http.StatusConflict && got.err.Code == "idempotency_in_flight" && got.header.Get("Retry-After") == "1" {
					time.Sleep(time.Millisecond)
					continue
				}
				bodies <- fmt.Sprint(got.status, string(got.body))
				return
			}
		})
	}
	group.Wait()
	first := <-bodies
	for range 15 {
		if other := <-bodies; other != first || !strings.HasPrefix(other, "200") {
			t.Errorf("%s and %s", first, other)
		}
	}
	if len(g.creating.keys) != 0 {
		t.Errorf("in flight: %v", g.creating.keys)
	}
}

func TestWhatAnIdempotencyKeyIs(t *testing.T) {
	g := startGateway(t)
	for key, good := range map[string]bool{"~ !": true, strings.Repeat("k", 255): true, strings.Repeat("k", 256): false, "ключ": false, "": false} {
		got := g.uploadOnce("acme", key, field{"purpose", "", "user_data"}, field{"file", "a", "1"})
		if (got.status == http.StatusOK) != good || (!good && (got.err.Code != "invalid_value" || !strings.Contains(got.err.Message, keyHeader))) {
			t.Errorf("%q: %d %s", key, got.status, got.body)
		}
	}
	request, err := http.NewRequest(http.MethodPost, g.url+batchesRoute, strings.NewReader(`{"input_file_id":"file-00000000000000000000000000000000","endpoint":"/v1/embeddings","completion_window":"24h"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = http.Header{"Authorization": {"Bearer " + g.keys["acme"]}, textproto.CanonicalMIMEHeaderKey(keyHeader): {"a", "b"}}
	sent, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if got := g.read(sent); got.status != http.StatusBadRequest {
		t.Errorf("two keys: %d %s", got.status, got.body)
	}
	// A call of a model creates nothing that is kept: there the header says nothing.
	for range 2 {
		if got := g.post("/v1/embeddings", oneText, keyHeader, "k"); got.status != http.StatusOK || got.header.Get("Idempotent-Replayed") != "" {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
}
