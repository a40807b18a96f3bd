package jobs

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
)

// FuzzJob holds that a reply is a job with an id and a status, or none; whatever else it says of itself is a status and a code.
func FuzzJob(f *testing.F) {
	for _, seed := range []string{
		`{"id":"job_1","status":"queued"}`, `{"id":"job_1","status":"failed","error":{"code":"c"}}`,
		`{"id":"job_1","status":"completed","response":{"status_code":400,"body":{"error":{"code":"invalid_value"}}}}`,
		`{"id":"job_1","status":"x","response":{"status_code":1e300}}`, `{"id":"a","status":"b","error":[],"response":null}`, `{"id":"","status":"x"}`, `null`, `[`, `{"ID":"a","STATUS":"b"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		job, err := decode(raw)
		if err != nil {
			if !errors.Is(err, ErrReply) || job.ID != "" {
				t.Fatalf("%q: %+v, %v", raw, job, err)
			}
			return
		}
		if job.ID == "" || job.Status == "" || !bytes.Equal(job.Raw, raw) || !json.Valid(job.Raw) {
			t.Fatalf("%q gave %+v", raw, job)
		}
		status, code := job.Failure()
		written, err := json.Marshal(map[string]any{
			"id": job.ID, "status": job.Status,
			"response": map[string]any{"status_code": status, "body": map[string]any{"error": map[string]any{"code": code}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		again, err := decode(written)
		if sameStatus, sameCode := again.Failure(); err != nil || again.ID != job.ID || again.Status != job.Status || again.Ended() != job.Ended() || sameStatus != status || sameCode != code {
			t.Fatalf("%+v, and, written as %q, %+v, %v", job, written, again, err)
		}
	})
}
