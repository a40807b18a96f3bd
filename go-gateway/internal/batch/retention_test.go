package batch

import (
	"context"
	"testing"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
)

// What comes out, and the batch itself, are kept for as long as the plan says that its tenant has in the end, and files for no longer than was asked for.
func TestWhatIsKeptByPlan(t *testing.T) {
	for _, c := range []struct {
		plan         identity.Retention
		asked        time.Duration
		files, batch time.Duration // 0: for ever
	}{
		{identity.Retention{}, 0, 0, kept},
		{identity.Retention{}, time.Hour, time.Hour, kept},
		{identity.Retention{Files: 2 * time.Hour, Batches: 3 * time.Hour}, 0, 2 * time.Hour, 3 * time.Hour},
		{identity.Retention{Files: 2 * time.Hour}, time.Hour, time.Hour, kept},
		{identity.Retention{Files: time.Hour}, 2 * time.Hour, time.Hour, kept}, // the plan was another one when it was asked for
	} {
		f := newFixture(t)
		asked := f.mustSubmit(2)
		batch, err := f.Create(t.Context(), acme, Asked{File: asked.File, Endpoint: endpoint, OutputLifetime: c.asked}, withoutKey)
		if err != nil {
			t.Fatal(err)
		}
		f.PlanOf = func(string, string) (identity.Plan, bool) { return identity.Plan{Retention: c.plan}, true }
		stop := f.watch(func(ctx context.Context, request Request) Reply {
			return good(ctx, request)
		})
		batch = f.ended(batch.ID)
		stop()
		if batch.Forgotten.Sub(batch.Ended) != c.batch {
			t.Errorf("%+v: it ended at %v, and is kept until %v", c, batch.Ended, batch.Forgotten)
		}
		output, err := f.Files.Find(t.Context(), "acme", batch.Output)
		if err != nil || output.Expires.IsZero() != (c.files == 0) || c.files > 0 && output.Expires.Sub(output.Created) != c.files {
			t.Errorf("%+v: %+v, %v", c, output, err)
		}
		f.late.Store(int64(c.batch - time.Minute))
		if f.watchTime(t.Context()); !f.found(batch.ID) {
			t.Errorf("%+v: it was forgotten before its time", c)
		}
		f.late.Store(int64(c.batch + time.Minute))
		if f.watchTime(t.Context()); f.found(batch.ID) {
			t.Errorf("%+v: it is not forgotten", c)
		}
	}
}

func (f *fixture) found(id string) bool {
	f.Helper()
	_, err := f.Find(f.Context(), "acme", id)
	if err != nil && fault.Of(err).Reason != fault.BatchNotFound {
		f.Fatal(err)
	}
	return err == nil
}

func TestMoreThanThePlanKeepsIsRefused(t *testing.T) {
	f := newFixture(t)
	file := f.mustSubmit(2).File
	owner := acme
	owner.Plan.Retention.Files = 2 * time.Hour
	_, err := f.Create(t.Context(), owner, Asked{File: file, Endpoint: endpoint, OutputLifetime: 3 * time.Hour}, withoutKey)
	if refused := fault.Of(err); refused.Reason != fault.InvalidValue || refused.Param != "output_expires_after.seconds" || refused.Limit != 7200 {
		t.Errorf("%+v", refused)
	}
}
