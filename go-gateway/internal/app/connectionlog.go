package app

import (
	"bytes"
	"context"
	"log"
	"log/slog"
)

// connectionLog returns a log for what net/http has to say. Handshakes that fail are whoever scans ports, probes, or does
// not trust us; there may be any number of them, so that is for those who look for it.
func connectionLog(logger *slog.Logger) *log.Logger { return log.New(connectionLines{logger}, "", 0) }

type connectionLines struct{ logger *slog.Logger }

func (l connectionLines) Write(line []byte) (int, error) {
	level := slog.LevelWarn
	if bytes.HasPrefix(line, []byte("http: TLS handshake error")) {
		level = slog.LevelDebug
	}
	l.logger.Log(context.Background(), level, string(bytes.TrimSpace(line)))
	return len(line), nil
}
