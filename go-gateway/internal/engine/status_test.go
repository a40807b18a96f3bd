package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/testkit"
)

func TestFaultOfEveryDocumentedReason(t *testing.T) {
	for name, row := range testkit.ErrorTable(t) {
		code := codes.Internal
		if row.Hotpath() {
			if err := code.UnmarshalJSON([]byte(`"` + row.GRPC + `"`)); err != nil {
				t.Errorf("docs/errors.md: %s: %v", name, err)
			}
		}
		sent := testkit.RefusalWith(code, name, "inputs[1]", "the words", 1500*time.Millisecond, 256, 300)
		got := faultOf(t.Context(), sent, time.Second)
		want := name
		passes := row.Hotpath() && name != "CANCELLED" && name != "INTERNAL" // those two are of the hot path itself
		if !passes {
			want = "INTERNAL"
		}
		if string(got.Reason) != want {
			t.Errorf("%s became %s", name, got.Reason)
		}
		speaks := passes && name != "MODEL_NOT_READY" && name != "HOTPATH_UNAVAILABLE"
		if (got.Message == "the words") != speaks || strings.Contains(got.Message, "the words") != speaks {
			t.Errorf("%s says %q", name, got.Message)
		}
		if speaks && (got.Param != "inputs[1]" || got.RetryAfter != 1500*time.Millisecond || got.Limit != 256 || got.Actual != 300) {
			t.Errorf("%s: got %+v", name, got)
		}
		if !errors.Is(got, sent) {
			t.Errorf("%s: the cause is lost", name)
		}
	}
}

func TestFaultOfBareCodesAgreesWithTheDocument(t *testing.T) {
	table := testkit.ErrorTable(t)
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		got := string(faultOf(t.Context(), status.Error(code, "an address, a path"), time.Second).Reason)
		want := "INTERNAL"
		switch code {
		case codes.DeadlineExceeded:
			want = "DEADLINE_EXCEEDED"
		case codes.Unavailable, codes.Canceled:
			want = "HOTPATH_UNAVAILABLE"
		}
		if got != want {
			t.Errorf("%v became %s", code, got)
		}
	}
	for name, code := range map[string]string{
		"DEADLINE_EXCEEDED": "DEADLINE_EXCEEDED", "HOTPATH_UNAVAILABLE": "UNAVAILABLE", "CANCELLED": "CANCELLED", "INTERNAL": "INTERNAL",
	} {
		if table[name].GRPC != code {
			t.Errorf("docs/errors.md: %s has %s", name, table[name].GRPC)
		}
	}
}

func TestFaultOfStrangers(t *testing.T) {
	foreign, err := status.New(codes.InvalidArgument, "x").WithDetails(&errdetails.ErrorInfo{Domain: "another.example", Reason: "INVALID_VALUE"})
	if err != nil {
		t.Fatal(err)
	}
	for name, sent := range map[string]error{
		"another domain":         foreign.Err(),
		"a newer reason":         testkit.RefusalWith(codes.InvalidArgument, "FROM_THE_FUTURE", "", "x", 0),
		"the unspecified reason": testkit.RefusalWith(codes.InvalidArgument, "UNSPECIFIED", "", "x", 0),
		"no status":              errors.New("x"),
	} {
		got := faultOf(t.Context(), sent, time.Second)
		if got.Reason != fault.Internal || got.Message == "x" {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestFaultOfAClientThatLeft(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, code := range []codes.Code{codes.Canceled, codes.Unavailable, codes.DeadlineExceeded} {
		if got := faultOf(ctx, status.Error(code, ""), time.Second); got.Reason != fault.Cancelled {
			t.Errorf("%v: got %v", code, got)
		}
	}
}
