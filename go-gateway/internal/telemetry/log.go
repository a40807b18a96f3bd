// Package telemetry is how the gateway is seen from outside: logs and metrics.
//
// It must not depend on other packages of the gateway, so that all of them may use it.
package telemetry

import (
	"io"
	"log/slog"
)

// NewLogger returns a logger that writes one JSON object a line, with the hot path's names for the common fields:
// timestamp, level and message.
func NewLogger(out io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, attribute slog.Attr) slog.Attr {
			if len(groups) > 0 {
				return attribute
			}
			switch attribute.Key {
			case slog.TimeKey:
				attribute.Key = "timestamp"
			case slog.MessageKey:
				attribute.Key = "message"
			}
			return attribute
		},
	}))
}
