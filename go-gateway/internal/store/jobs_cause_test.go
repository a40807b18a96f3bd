package store

import (
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/testkit"
	"triptych.dev/gateway/internal/tracing"
)

const aCause = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// TestAJobKnowsWhatHadItDone: the span that added it, as long as it is there, and whoever adds it again.
func TestAJobKnowsWhatHadItDone(t *testing.T) {
	tracer, err := tracing.Open(tracing.Options{Endpoint: testkit.StartCollector(t).Endpoint, Ratio: 1, Queue: 100, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Gateway)
		ctx, span := tracer.Request(t.Context(), aCause, tracing.Request{Method: "POST", Route: "/v1/jobs"})
		want := span.Traceparent()
		if err := s.AddJobs(ctx, jobOf("a", "acme")); err != nil {
			t.Fatal(err)
		}
		again, other := tracer.Request(t.Context(), "", tracing.Request{Method: "POST"})
		if err := s.AddJobs(again, jobOf("a", "acme")); err != nil {
			t.Fatal(err)
		}
		addJobs(t, s, jobOf("b", "acme"))
		if !strings.HasPrefix(want, aCause[:35]) || len(want) != 55 {
			t.Fatalf("the span is %q", want)
		}
		for _, job := range claim(t, s, 2) {
			if job.Cause != map[string]string{"a": want, "b": ""}[job.ID] {
				t.Errorf("%s is for %q", job.ID, job.Cause)
			}
			if err := s.BuryJob(t.Context(), job, "why"); err != nil {
				t.Error(err)
			}
		}
		if _, err := s.ReplayDead(t.Context(), "a", acted("replayed")); err != nil {
			t.Fatal(err)
		}
		if job := claimOne(t, s); job.Cause != want {
			t.Errorf("once it is replayed it is for %q", job.Cause)
		}
		span.EndRequest(tracing.Reply{Status: 200, Outcome: tracing.OK})
		other.EndRequest(tracing.Reply{Status: 200, Outcome: tracing.OK})
	})
	if err := tracer.Close(); err != nil {
		t.Error(err)
	}
}
