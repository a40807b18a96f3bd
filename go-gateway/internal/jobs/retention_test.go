package jobs

import (
	"cmp"
	"testing"
	"time"

	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/store"
)

// A job is kept after its end for as long as its tenant's plan says then, however it ended.
func TestAJobIsKeptForAsLongAsThePlanSays(t *testing.T) {
	f := newFixture(t)
	for _, want := range []time.Duration{0, 3 * time.Hour} {
		f.PlanOf = func(string, string) (identity.Plan, bool) {
			return identity.Plan{Retention: identity.Retention{Jobs: want}}, true
		}
		want = cmp.Or(want, f.Kept)
		late := f.mustCreate()
		f.late.Store(int64(f.Window))
		f.watchTime(t.Context())
		f.late.Store(0)
		cancelled, run := f.mustCreate(), f.mustCreate()
		if _, err := f.Cancel(t.Context(), "acme", cancelled); err != nil {
			t.Fatal(err)
		}
		stop := f.watch(good)
		f.ended(run)
		stop()
		for state, id := range map[string]string{store.AsyncCancelled: cancelled, store.AsyncExpired: late, store.AsyncCompleted: run} {
			if job := f.find(id); job.State != state || job.Forgotten.Sub(job.Ended) != want {
				t.Errorf("%+v is kept for %v, not %v", job, job.Forgotten.Sub(job.Ended), want)
			}
		}
	}
}
