package openai

import (
	stdjson "encoding/json"
	"testing"
)

func FuzzDecodeJob(f *testing.F) {
	for _, seed := range []string{
		`{"endpoint":"/v1/embeddings","body":{"model":"m","input":"a"},"metadata":{"a":"b"}}`, `{"endpoint":"e","body":{"a":[1,{"b":null}]}}`,
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
			return []string{asked.Endpoint, string(asked.Body), asked.Model, asked.Metadata}
		})
	})
}
