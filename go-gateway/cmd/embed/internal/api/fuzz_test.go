package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"testing"
)

// FuzzEmbeddings holds that a reply has one vector for each text, all of one length, or is refused as none; and that it is
// the same if it is written and read again.
func FuzzEmbeddings(f *testing.F) {
	for _, seed := range []string{
		`{"data":[{"index":1,"embedding":"AAAAAA=="},{"index":0,"embedding":"AACAPw=="}],"usage":{"prompt_tokens":7},"truncated_inputs":[1]}`,
		`{"data":[{"index":0,"embedding":"AAAAAA=="},{"index":0,"embedding":"AAAAAA=="}]}`, `{"data":[{"index":2,"embedding":""},{}]}`,
		`{"data":[{"index":-1},{"index":9223372036854775808}]}`, `{"data":[{"index":0,"embedding":[0.5]},{"index":1,"embedding":"A"}]}`, `{"data":null}`, `[`,
		`{"data":[{"index":0,"embedding":"AAAA"},{"index":1,"embedding":"AAAAAAAAAAA="}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		const texts = 2
		client := &Client{}
		got, err := client.read(body, texts)
		if err != nil {
			if !errors.Is(err, ErrReply) {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		if len(got.Vectors) != texts || len(got.Vectors[0]) == 0 || len(got.Vectors[0]) != len(got.Vectors[1]) || len(got.Vectors[0])%4 != 0 {
			t.Fatalf("%q gave %v", body, got)
		}
		written := map[string]any{"usage": map[string]any{"prompt_tokens": got.Tokens}, "truncated_inputs": make([]int, got.Truncated)}
		var data []map[string]any
		for i, vector := range got.Vectors {
			data = append(data, map[string]any{"index": i, "embedding": vector})
		}
		written["data"] = data
		text, err := json.Marshal(written)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := client.read(text, texts); err != nil || !reflect.DeepEqual(again, got) {
			t.Fatalf("%+v, and, written as %q, %+v, %v", got, text, again, err)
		}
	})
}

// FuzzModel is of the other reply that is read.
func FuzzModel(f *testing.F) {
	for _, seed := range []string{
		`{"revision":"0123456789abcdef","task":"embedding","limits":{"max_inputs":2048}}`, `{"task":"generation"}`, `{}`, `null`, `{"limits":{"max_inputs":-1}}`,
		`{"limits":{"max_inputs":1e300}}`, "{\"revision\":\"\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		client := &Client{Model: "m"}
		got, err := client.readModel(body)
		if err != nil {
			return
		}
		if got.MaxInputs < 0 {
			t.Fatalf("%q takes %d inputs", body, got.MaxInputs)
		}
		text := fmt.Appendf(nil, `{"revision":%s,"limits":{"max_inputs":%d}}`, quoted(t, got.Revision), got.MaxInputs)
		if again, err := client.readModel(text); err != nil || again != got {
			t.Fatalf("%+v, and, written as %q, %+v, %v", got, text, again, err)
		}
	})
}

func quoted(t *testing.T, text string) []byte {
	t.Helper()
	written, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return written
}
