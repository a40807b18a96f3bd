package openai

import (
	stdjson "encoding/json"
	"testing"
)

func FuzzDecodeBatch(f *testing.F) {
	for _, seed := range []string{
		`{"input_file_id":"file-1","endpoint":"/v1/embeddings","completion_window":"24h","metadata":{"a":"b"}}`,
		`{"input_file_id":"f","endpoint":"e","completion_window":"24h","metadata":{"a":1}}`, `{"metadata":{"a":"\ud800"}}`, `{"metadata":null`,
		`{"input_file_id":"f","endpoint":"e","completion_window":"24h","output_expires_after":{"anchor":"created_at","seconds":3600}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		asked, err := plain.Batch(body, nil)
		checkDecoded(t, body, err, func() []string {
			if asked.Metadata != "" && !stdjson.Valid([]byte(asked.Metadata)) {
				t.Errorf("metadata %q", asked.Metadata)
			}
			return []string{asked.File, asked.Endpoint, asked.Metadata}
		})
	})
}
