package tracing

import (
	"context"
	"io"
	"log/slog"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
)

// traceID is the log's name for the id of a trace.
const traceID = "trace_id"

// LogFaults has OpenTelemetry write what it has to say, a line each, to where the log's lines go, in place of standard error.
func LogFaults(lines io.Writer) {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { _, _ = io.WriteString(lines, "OpenTelemetry: "+err.Error()) }))
}

// LogHandler gives lines that are logged with a context which has a span the id of its trace, unless they say it already.
func LogHandler(next slog.Handler) slog.Handler { return logHandler{next} }

type logHandler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h logHandler) Handle(ctx context.Context, line slog.Record) error {
	if span := trace.SpanFromContext(ctx); span.IsRecording() && !says(line, traceID) {
		line = line.Clone()
		line.AddAttrs(slog.String(traceID, span.SpanContext().TraceID().String()))
	}
	return h.Handler.Handle(ctx, line)
}

// WithAttrs implements slog.Handler.
func (h logHandler) WithAttrs(attributes []slog.Attr) slog.Handler {
	return logHandler{h.Handler.WithAttrs(attributes)}
}

// WithGroup implements slog.Handler.
func (h logHandler) WithGroup(name string) slog.Handler { return logHandler{h.Handler.WithGroup(name)} }

func says(line slog.Record, key string) (found bool) {
	line.Attrs(func(attribute slog.Attr) bool {
		found = attribute.Key == key
		return !found
	})
	return found
}
