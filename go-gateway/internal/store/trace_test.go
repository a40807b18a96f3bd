package store

import (
	"database/sql"
	"errors"
	"testing"
	"time"

	traces "go.opentelemetry.io/proto/otlp/trace/v1"

	"triptych.dev/gateway/internal/testkit"
	"triptych.dev/gateway/internal/tracing"
)

// TestATransactionThatIsUndoneIsAnErrorWhereThatIsAFault: what a tenant asked for and cannot have is none.
func TestATransactionThatIsUndoneIsAnErrorWhereThatIsAFault(t *testing.T) {
	s := open(t, places["sqlite"](t), Gateway)
	for name, test := range map[string]struct {
		undo    error
		outcome string
		isError bool
	}{
		"committed":        {nil, "", false},
		"not found":        {ErrNotFound, "rolled_back", false},
		"too many batches": {ErrBatchLimit{}, "rolled_back", false},
		"too many files":   {ErrShare{}, "rolled_back", false},
		"answered before":  {ErrAnswered{}, "rolled_back", false},
		"a fault":          {errors.New("secret"), "rolled_back", true},
	} {
		collector := testkit.StartCollector(t)
		tracer, err := tracing.Open(tracing.Options{Endpoint: collector.Endpoint, Ratio: 1, Queue: 100, Timeout: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		ctx, request := tracer.Request(t.Context(), "", tracing.Request{Method: "POST"})
		if err := s.writeOnce(ctx, func(*sql.Tx) error { return test.undo }); (err == nil) != (test.undo == nil) {
			t.Errorf("%s: %v", name, err)
		}
		request.EndRequest(tracing.Reply{Status: 200, Outcome: tracing.OK})
		if err := tracer.Close(); err != nil {
			t.Error(err)
		}
		write := collector.Named(t, "store write")
		of := testkit.Attributes(write)
		if isError := write.GetStatus().GetCode() == traces.Status_STATUS_CODE_ERROR; isError != test.isError || of["triptych.outcome"] != test.outcome {
			t.Errorf("%s: %v, %v", name, write.GetStatus(), of)
		}
	}
}
