package engine

import (
	"context"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/tracing"
)

// startSpan begins the span of one call to one hot path, and tells that one of it in the place of what it would be told.
//
// It is done here, and not by a stats handler of otelgrpc: that gives a span the words of the hot path's error, which quote
// what a client sent, and costs as much for a call that is not recorded.
func startSpan(ctx context.Context, method, address string) (context.Context, *tracing.Span) {
	ctx, span := tracing.StartCall(ctx, inferencev1.InferenceService_ServiceDesc.ServiceName, method, address)
	if span == nil {
		return ctx, nil
	}
	carried, _ := metadata.FromOutgoingContext(ctx) // a copy
	if carried == nil {
		carried = metadata.MD{}
	}
	carried.Set(traceparent, span.Traceparent())
	return metadata.NewOutgoingContext(ctx, carried), span
}

func endSpan(span *tracing.Span, err error, failure *fault.Fault) {
	if span == nil {
		return
	}
	outcome := tracing.OK
	if failure != nil {
		outcome = string(failure.Reason)
	}
	span.EndCall(code.Code(status.Code(err)).String(), outcome)
}
