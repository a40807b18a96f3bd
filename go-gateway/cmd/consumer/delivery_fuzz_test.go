package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// message is one of which only the content matters.
type message struct {
	jetstream.Msg
	data []byte
}

func (m message) Data() []byte         { return m.data }
func (m message) Headers() nats.Header { return nil }

// FuzzMessage holds that whatever somebody publishes is a body of JSON that goes to the gateway, or a dead letter, and that
// its key is one that a header may hold, the same each time.
func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"endpoint":"/v1/embeddings"}`), "6f1c2c34", uint64(1))
	f.Add([]byte(" \n{"), "", uint64(1<<63))
	f.Add([]byte(`[{}]`), "a\r\nb", uint64(2))
	f.Add([]byte("\xef\xbb\xbf{}"), " a ", uint64(3))
	f.Add([]byte(`{"a":`+strings.Repeat("[", 20_000)), strings.Repeat("k", longestKey+1), uint64(4))
	f.Fuzz(func(t *testing.T, data []byte, id string, sequence uint64) {
		const most = 1 << 16
		d := &delivery{Msg: message{data: data}, meta: &jetstream.MsgMetadata{NumDelivered: 1}, bound: &binding{maxDeliveries: 5}}
		if dead := d.examine(most); dead == nil {
			var object map[string]any
			if len(data) > most || json.Unmarshal(data, &object) != nil || object == nil {
				t.Fatalf("%.100q is taken for a job", data)
			}
		} else if dead.reason == "" || dead.message == "" {
			t.Fatalf("%.100q: %+v", data, dead)
		}
		key := keyOf(id, "STREAM", sequence)
		hostile := strings.ContainsFunc(key, func(letter rune) bool { return letter < ' ' || letter > '~' })
		if hostile || key == "" || len(key) > longestKey || key != strings.TrimSpace(key) || key != keyOf(id, "STREAM", sequence) {
			t.Fatalf("%q became %q", id, key)
		}
	})
}
