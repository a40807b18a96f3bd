package server

import (
	"crypto/rand"
	"encoding/hex"
	"regexp"
	"strings"
)

var (
	validRequestID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)
	// W3C Trace Context, version 00: trace id, parent id, flags.
	validTraceparent = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)
)

const (
	noTrace  = "00-00000000000000000000000000000000-"
	noParent = "-0000000000000000-"
)

// requestID returns the client's own id if it is sane, else a new one.
func requestID(sent string) string {
	if validRequestID.MatchString(sent) {
		return sent
	}
	return "req_" + rand.Text()
}

// objectID returns the id of a reply, without its prefix. It is not the request's, which a client may repeat: whoever
// keeps replies keeps them by their ids.
func objectID() string { return rand.Text() }

// traceparent returns the client's trace context if it is sane, else nothing.
func traceparent(sent string) string {
	if validTraceparent.MatchString(sent) && !strings.HasPrefix(sent, noTrace) && !strings.Contains(sent, noParent) {
		return sent
	}
	return ""
}

// newTraceparent returns a trace context that is not sampled, for a trace of which nothing is recorded.
func newTraceparent() string {
	var random [24]byte
	_, _ = rand.Read(random[:]) // never fails: documented
	return "00-" + hex.EncodeToString(random[:16]) + "-" + hex.EncodeToString(random[16:]) + "-00"
}

// traceID returns the trace's id within a trace context.
func traceID(traceparent string) string {
	return strings.Split(traceparent, "-")[1]
}
