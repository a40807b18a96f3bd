package webhook

import (
	"encoding/json"
	"strings"
	"time"

	"triptych.dev/gateway/internal/store"
)

// sampleOf is a delivery of an event that has not happened, of an object that there is not.
func sampleOf(kind string, now time.Time) store.Delivery {
	family, end, _ := strings.Cut(kind, ".")
	none := strings.Repeat("0", 32)
	sample := store.Delivery{ID: store.NewID("msg_", now), Event: store.NewID("evt_", now), Type: kind, Object: family + "_" + none, At: now}
	if family != "moderation" {
		return sample
	}
	job := "job_" + none
	sample.Object = job
	var told any
	switch kind {
	case store.EventModerationDecided:
		sample.Object = store.ReviewID(job, 0)
		told = store.ModerationDecided{ID: sample.Object, Job: job, Decision: "passed"}
	case store.EventModerationFailed:
		told = store.ModerationEnded{ID: job, Status: store.AsyncFailed}
	default:
		told = store.ModerationEnded{ID: job, Status: store.AsyncCompleted, Verdict: &end}
	}
	data, err := json.Marshal(told)
	if err != nil {
		panic(err) // of texts and numbers, which always encode
	}
	sample.Data = string(data)
	return sample
}
