package webhook

import (
	"fmt"
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
	switch kind {
	case store.EventModerationDecided:
		sample.Object = store.ReviewID(job, 0)
		sample.Data = fmt.Sprintf(`{"id":%q,"job_id":%q,"index":0,"decision":"passed","metadata":null}`, sample.Object, job)
	case store.EventModerationFailed:
		sample.Object = job
		sample.Data = fmt.Sprintf(`{"id":%q,"status":"failed","verdict":null,"metadata":null}`, job)
	default:
		sample.Object = job
		sample.Data = fmt.Sprintf(`{"id":%q,"status":"completed","verdict":%q,"metadata":null}`, job, end)
	}
	return sample
}
