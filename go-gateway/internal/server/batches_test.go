package server

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/batch"
	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/testkit"
)

// keepBatches of which nothing is run.
func (g *gateway) keepBatches(kept *files.Files, logger *slog.Logger) *batch.Batches {
	return batch.New(batch.Options{
		Store: g.records, Files: kept, Turns: batch.NewTurns(g.records), Segments: 1, Lines: 1, Now: time.Now, Logger: logger,
		PlanOf: func(string, string) (identity.Plan, bool) { return identity.Plan{}, true },
	})
}

// requests uploads a file of so many lines, and returns its id.
func (g *gateway) requests(tenant string, lines int) string {
	g.Helper()
	var text strings.Builder
	for i := range lines {
		fmt.Fprintf(&text, `{"custom_id":"%d","method":"POST","url":"/v1/embeddings","body":%s}`+"\n", i, oneText)
	}
	return g.uploaded(tenant, field{"purpose", "", "batch"}, field{"file", "in.jsonl", text.String()}).ID
}

type batchReply struct {
	ID, Object, Endpoint, Model, Status string
	File                                string         `json:"input_file_id"`
	Counts                              map[string]int `json:"request_counts"`
	Usage                               map[string]any
	Metadata                            map[string]string
	Window                              string `json:"completion_window"`
	CreatedAt                           int64  `json:"created_at"`
	ExpiresAt                           int64  `json:"expires_at"`
	CancellingAt                        *int64 `json:"cancelling_at"`
	CancelledAt                         *int64 `json:"cancelled_at"`
}

func (g *gateway) postAs(tenant, path, body string) reply {
	g.Helper()
	return g.do(http.MethodPost, path, body, "Authorization", "Bearer "+g.keys[tenant])
}

func (g *gateway) readBatch(got reply) (read batchReply) {
	g.Helper()
	if err := json.Unmarshal(got.body, &read); err != nil || got.status != http.StatusOK {
		g.Fatalf("%d %s", got.status, got.body)
	}
	return read
}

// batch is a new one of a tenant, of two lines.
func (g *gateway) batch(tenant string) batchReply {
	g.Helper()
	body := fmt.Sprintf(`{"input_file_id":%q,"endpoint":"/v1/embeddings","completion_window":"24h","metadata":{"a":"b"}}`, g.requests(tenant, 2))
	return g.readBatch(g.postAs(tenant, "/v1/batches", body))
}

func TestABatchsLifeOverHTTP(t *testing.T) {
	g := startGateway(t)
	created := g.batch("acme")
	if created.Object != "batch" || created.Status != "in_progress" || created.Counts["total"] != 2 || created.Metadata["a"] != "b" || created.Model != testkit.ModelName ||
		created.Window != "24h" || created.ExpiresAt-created.CreatedAt != 24*60*60 || created.Usage["total_tokens"] != 0.0 {
		t.Errorf("%+v", created)
	}
	second := g.batch("acme")
	g.batch("metered")
	var list struct {
		Data    []batchReply
		HasMore bool   `json:"has_more"`
		FirstID string `json:"first_id"`
	}
	for path, want := range map[string]string{"": second.ID + created.ID, "?limit=1": second.ID, "?after=" + second.ID: created.ID, "?after=" + created.ID: ""} {
		got, ids := g.get("/v1/batches"+path), ""
		if err := json.Unmarshal(got.body, &list); err != nil {
			t.Fatal(err)
		}
		for _, one := range list.Data {
			ids += one.ID
		}
		if ids != want || list.HasMore != (path == "?limit=1") {
			t.Errorf("%q: %s", path, got.body)
		}
	}
	for range 2 {
		cancelled := g.readBatch(g.postAs("acme", "/v1/batches/"+created.ID+"/cancel", ""))
		if cancelled.Status != "cancelling" || cancelled.CancellingAt == nil || cancelled.CancelledAt != nil {
			t.Errorf("%+v", cancelled)
		}
	}
	for _, ask := range []reply{
		g.ask("metered", http.MethodGet, "/v1/batches/"+second.ID), g.postAs("metered", "/v1/batches/"+second.ID+"/cancel", ""),
		g.get("/v1/batches/" + second.ID[:10]), g.get("/v1/batches/batch_%00"),
	} {
		if ask.status != http.StatusNotFound || ask.err.Code != "batch_not_found" {
			t.Errorf("another one's, or none: %d %s", ask.status, ask.body)
		}
	}
	if got := g.readBatch(g.get("/v1/batches/" + second.ID)); got.Status != "in_progress" {
		t.Errorf("%+v", got)
	}
}

func TestABatchThatCannotBeIsRefused(t *testing.T) {
	g := startGateway(t)
	file := g.requests("acme", 1)
	data := g.uploaded("acme", field{"purpose", "", "user_data"}, field{"file", "a", "12345"}).ID
	good := fmt.Sprintf(`{"input_file_id":%q,"endpoint":"/v1/embeddings","completion_window":"24h"}`, file)
	many := `,"metadata":{` + strings.TrimSuffix(strings.Repeat(`"%d":"",`, 17), ",") + `}}`
	for i := range 17 {
		many = strings.Replace(many, "%d", fmt.Sprint(i), 1)
	}
	for _, test := range []struct{ part, other, param string }{
		{file, data, "input_file_id"}, {file, "file-none", "input_file_id"}, {file, g.requests("metered", 1), "input_file_id"},
		{"/v1/embeddings", "/v1/models", "endpoint"}, {"/v1/embeddings", "/v1/batches", "endpoint"}, {"24h", "1h", "completion_window"},
		{`"24h"}`, `"24h","metadata":{"a":1}}`, "metadata"}, {`"24h"}`, `"24h"` + many, "metadata"},
		{`"24h"}`, `"24h","metadata":{"a":"` + strings.Repeat("é", 513) + `"}}`, "metadata"},
		{`"24h"}`, `"24h","output_expires_after":1}`, "output_expires_after"},
		{`"24h"}`, `"24h","output_expires_after":{"seconds":3600}}`, "output_expires_after.anchor"},
		{`"24h"}`, `"24h","output_expires_after":{"anchor":"now","seconds":3600}}`, "output_expires_after.anchor"},
		{`"24h"}`, `"24h","output_expires_after":{"anchor":"created_at"}}`, "output_expires_after.seconds"},
		{`"24h"}`, `"24h","output_expires_after":{"anchor":"created_at","seconds":3599}}`, "output_expires_after.seconds"},
		{`"24h"}`, `"24h","output_expires_after":{"anchor":"created_at","seconds":2592001}}`, "output_expires_after.seconds"},
		{`"24h"}`, `"24h","more":1}`, "more"}, {`,"completion_window":"24h"`, ``, "completion_window"},
	} {
		got := g.post("/v1/batches", strings.Replace(good, test.part, test.other, 1))
		if got.status < 400 || got.status > 404 || got.err.Param == nil || *got.err.Param != test.param {
			t.Errorf("%.60s: %d %s", test.other, got.status, got.body)
		}
	}
	for _, more := range []string{`"metadata":null`, `"output_expires_after":{"seconds":3600,"anchor":"created_at"}`, `"output_expires_after":null`} {
		if got := g.post("/v1/batches", strings.Replace(good, `"24h"}`, `"24h",`+more+`}`, 1)); got.status != http.StatusOK {
			t.Errorf("%s: %d %s", more, got.status, got.body)
		}
	}
	if list := g.get("/v1/batches?limit=101"); list.err.Code != "invalid_value" {
		t.Errorf("%s", list.body)
	}
}

func TestWhereNoFilesAreKeptThereAreNoBatches(t *testing.T) {
	g := startGateway(t, func(_ *engine.Options, o *Options) { o.Batches = nil })
	if got := g.get("/v1/batches"); got.err.Code != "not_enabled" || !strings.Contains(got.err.Message, "blobs") {
		t.Errorf("%d %s", got.status, got.body)
	}
}
