package openai

import (
	"slices"
	"testing"

	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/webhook"
)

// Each body of webhooks, whichever it is of.
func FuzzDecodeWebhook(f *testing.F) {
	for _, seed := range []string{
		`{"name":"a","url":"https://a.example","event_types":["batch.completed"],"enabled":false}`, `{"event_types":["batch.completed","batch.completed"]}`,
		`{"event_types":[]}`, `{"overlap_seconds":3600}`, `{"overlap_seconds":1e3}`, `{"keep_old_secret_active_for_24_hours":false}`, `{"event_type":"batch.failed"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		created, err := plain.Webhook(body, nil)
		checkDecoded(t, body, err, func() []string { return append([]string{*created.Name, *created.URL}, created.Events...) })
		changed, err := plain.WebhookChange(body, nil)
		checkDecoded(t, body, err, func() []string {
			if changed.Events != nil && (len(changed.Events) == 0 || len(changed.Events) > len(store.EventTypes)) {
				t.Errorf("types %q", changed.Events)
			}
			return changed.Events
		})
		if overlap, err := plain.WebhookRotation(body, nil); err == nil && (overlap < 0 || overlap > webhook.MaxOverlap) {
			t.Errorf("an overlap of %v", overlap)
		}
		if kind, err := plain.WebhookTest(body, nil); err == nil && !slices.Contains(store.EventTypes, kind) {
			t.Errorf("type %q", kind)
		}
	})
}
