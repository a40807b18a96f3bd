package openai

import (
	stdjson "encoding/json"
	"testing"
	"unicode/utf8"

	"triptych.dev/gateway/internal/moderation"
)

func FuzzDecodeJob(f *testing.F) {
	for _, seed := range []string{
		`{"endpoint":"/v1/embeddings","body":{"model":"m","input":"a"},"metadata":{"a":"b"}}`, `{"endpoint":"e","body":{"a":[1,{"b":null}]}}`,
		`{"endpoint":"e","body":{},"thresholds":{"review":0.4,"flagged":0.8}}`, `{"endpoint":"e","body":{},"thresholds":{"flagged":1e-400,"review":-0}}`,
		`{"endpoint":"e","body":[]}`, `{"endpoint":"e","body":{"a":"\ud800"}}`, `{"endpoint":"e","body":{"a":1,"a":2}}`, `{"body":{`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		asked, err := plain.Job(body, nil)
		checkDecoded(t, body, err, func() []string {
			if !stdjson.Valid(asked.Body) || (asked.Metadata != "" && !stdjson.Valid([]byte(asked.Metadata))) {
				t.Errorf("body %q, metadata %q", asked.Body, asked.Metadata)
			}
			if of := asked.Thresholds; of != nil && (of.Review < 0 || of.Flagged < of.Review || of.Flagged > 1) {
				t.Errorf("thresholds %v", of)
			}
			return []string{asked.Endpoint, string(asked.Body), asked.Model, asked.Metadata}
		})
	})
}

func FuzzDecodeReviewDecision(f *testing.F) {
	for _, seed := range []string{
		`{"decision":"passed","note":"a"}`, `{"decision":"flagged"}`, `{"decision":"review"}`, `{"decision":"passed","note":"\u0000"}`, `{"decision":null}`, `{"note":`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		decision, err := plain.ReviewDecision(body, nil)
		checkDecoded(t, body, err, func() []string {
			if (decision.Verdict != moderation.Passed && decision.Verdict != moderation.Flagged) || utf8.RuneCountInString(decision.Note) > maxNote {
				t.Errorf("%+v", decision)
			}
			return []string{string(decision.Verdict), decision.Note}
		})
	})
}
