package engine

import (
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/testkit"
)

// FuzzErrorDetails takes what comes beside a failed call, as its bytes: it is a fault that the contract knows, without
// words of what is not the contract's, and what it says of times makes nobody wait for longer than it may.
func FuzzErrorDetails(f *testing.F) {
	seed := func(err error) {
		encoded, fault := proto.Marshal(status.Convert(err).Proto())
		if fault != nil {
			f.Fatal(fault)
		}
		f.Add(encoded)
	}
	seed(testkit.Refusal(fault.InputTooLong, "inputs[1]", "the words", 256, 300))
	seed(testkit.RefusalWith(codes.Unavailable, "QUEUE_FULL", "", "full", 1500*time.Millisecond, -1, 1))
	seed(testkit.RefusalWith(codes.Internal, "FROM_THE_FUTURE", "", "secret", 0))
	seed(testkit.FullQueue(time.Hour, time.Second))
	seed(status.Error(codes.ResourceExhausted, "message length too large"))
	seed(status.Error(codes.Unavailable, "an address"))
	for _, delay := range []*durationpb.Duration{{Seconds: -5}, {Seconds: 1 << 62, Nanos: -1}, {Nanos: 1 << 30}} {
		described, err := status.New(codes.Unavailable, "full").WithDetails(
			&errdetails.ErrorInfo{Domain: errorDomain, Reason: "QUEUE_FULL", Metadata: map[string]string{"waiting_ms": "99999999999"}},
			&errdetails.RetryInfo{RetryDelay: delay})
		if err != nil {
			f.Fatal(err)
		}
		seed(described.Err())
	}
	encoded, _ := proto.Marshal(&spb.Status{Code: 14, Message: "m", Details: []*anypb.Any{{TypeUrl: "type.googleapis.com/google.rpc.ErrorInfo", Value: []byte("\xff\xff")}, nil}})
	f.Add(encoded)
	f.Fuzz(func(t *testing.T, encoded []byte) {
		var sent spb.Status
		if proto.Unmarshal(encoded, &sent) != nil {
			return
		}
		err := status.ErrorProto(&sent)
		if err == nil { // OK
			return
		}
		got := faultOf(t.Context(), err, time.Second)
		ours := got.Reason == fault.Internal || got.Reason == fault.BodyTooLarge
		if !ours && !reasons[got.Reason] {
			t.Fatalf("%v became %v", &sent, got)
		}
		if !isDescribed(err) && sent.Message != "" && got.Message == sent.Message {
			t.Fatalf("%v, which is not the hot path's, is told as %q", &sent, got.Message)
		}
		if waiting := waitingOf(err); waiting < 0 || waiting >= 1<<32*time.Millisecond {
			t.Fatalf("%v: %v wait", &sent, waiting)
		}
		if (got.Reason == fault.Internal || got.Reason == fault.HotpathUnavailable || got.Reason == fault.ModelNotReady) && sent.Message != "" && got.Message == sent.Message {
			t.Fatalf("%v says %q", &sent, got.Message)
		}
		// A queue that is full stands for as long as it may, and what it says then has a client wait.
		var known full
		now := time.Now()
		call := task{model: "m", lane: lane{model: "m", key: "acme"}, tokens: 10}
		known.note(call, got, now)
		if known.refuses(call, now.Add(longestFull)) {
			t.Fatalf("%v stands for longer than %v", &sent, longestFull)
		}
		if later := known.fault(call, now); later != nil && (got.Reason != fault.QueueFull || later.RetryAfter < soonestRetry) {
			t.Fatalf("%v has it wait for %v", &sent, later.RetryAfter)
		}
	})
}
