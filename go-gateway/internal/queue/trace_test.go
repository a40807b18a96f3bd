package queue

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	traces "go.opentelemetry.io/proto/otlp/trace/v1"

	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/testkit"
	"triptych.dev/gateway/internal/tracing"
)

func TestAJobsSpanSaysWhatBecameOfIt(t *testing.T) {
	collector := testkit.StartCollector(t)
	tracer, err := tracing.Open(tracing.Options{Endpoint: collector.Endpoint, Ratio: 1, Queue: 100, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	errs := map[string]error{"done": nil, "retried": errors.New("secret"), "waits": Postpone(errors.New("secret"), time.Hour), "buried": Permanent(errors.New("secret"))}
	f, log := newFake("done", "retried", "waits", "buried"), &testkit.Log{}
	const cause = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
	f.jobs["done"].Cause = "00-" + cause + "-01"
	handled := make(chan string, len(errs))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{
			Store: f, Queue: "q", Workers: 4, Tracer: tracer, RetryBase: time.Hour, RetryMax: time.Hour,
			Log: slog.New(tracing.LogHandler(slog.NewTextHandler(log, nil))),
			Handler: finish(f, func(ctx context.Context, job store.Job) error {
				_, below := tracing.Start(ctx, "below "+job.ID)
				below.End(tracing.OK)
				handled <- job.ID
				return errs[job.ID]
			}),
		})
	}()
	for range errs {
		<-handled
	}
	cancel()
	if err := errors.Join(<-ended, tracer.Close()); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, span := range collector.Spans() {
		if span.GetName() != "process q" {
			continue
		}
		seen++
		of := testkit.Attributes(span)
		id := of["messaging.message.id"]
		if of["triptych.outcome"] != id || span.GetKind() != traces.Span_SPAN_KIND_CONSUMER {
			t.Errorf("%s: %v", id, of)
		}
		links := span.GetLinks()
		isLinked := len(links) == 1 && hex.EncodeToString(links[0].GetTraceId())+"-"+hex.EncodeToString(links[0].GetSpanId()) == cause
		if isLinked != (id == "done") || len(links) > 1 {
			t.Errorf("%s: linked to %v", id, links)
		}
		isError := id == "retried" || id == "buried"
		if (span.GetStatus().GetCode() == traces.Status_STATUS_CODE_ERROR) != isError || span.GetStatus().GetMessage() != "" {
			t.Errorf("%s: status %v", id, span.GetStatus())
		}
		if below := collector.Named(t, "below "+id); string(below.GetParentSpanId()) != string(span.GetSpanId()) {
			t.Errorf("%s: what its handler did is not below it", id)
		}
		if line := " trace_id=" + hex.EncodeToString(span.GetTraceId()); strings.Contains(log.String(), line) != (errs[id] != nil) {
			t.Errorf("%s: %q in the log: %s", id, line, log)
		}
	}
	if seen != len(errs) {
		t.Errorf("%d jobs", seen)
	}
}
