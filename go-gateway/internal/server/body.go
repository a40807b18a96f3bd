package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"time"

	"triptych.dev/gateway/internal/fault"
)

// usualBody is the most memory that a client gets for only saying that its body will be large.
const usualBody = 64 << 10 // bytes

// readBody returns the whole request body.
func (s *Server) readBody(ex *exchange, r *http.Request) ([]byte, error) {
	if err := checkBodyHeaders(r.Header); err != nil {
		return nil, err
	}
	if r.ContentLength > int64(s.MaxBodyBytes) {
		return nil, s.bodyTooLarge(ex)
	}
	deadline := time.Now().Add(s.BodyTimeout)
	if err := http.NewResponseController(ex.writer).SetReadDeadline(deadline); err != nil {
		return nil, fault.InternalError(fmt.Errorf("body deadline: %w", err))
	}
	// net/http lifts the deadline at the body's end, so it does not cut off the wait for the hot path.
	body := bytes.NewBuffer(make([]byte, 0, min(max(r.ContentLength, bytes.MinRead), usualBody)+bytes.MinRead))
	_, err := body.ReadFrom(http.MaxBytesReader(ex.writer, r.Body, int64(s.MaxBodyBytes)))
	if err == nil {
		return body.Bytes(), nil
	}
	ex.header().Set("Connection", "close") // the rest of the body may still come
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, s.bodyTooLarge(ex)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fault.New(fault.BodyTimeout, "The body did not arrive within %v.", s.BodyTimeout)
	case errors.Is(err, io.ErrUnexpectedEOF), r.Context().Err() != nil:
		return nil, clientGone(err)
	default:
		return nil, fault.New(fault.InvalidJSON, "The body could not be read to its end: its transfer encoding is broken.")
	}
}

func (s *Server) bodyTooLarge(ex *exchange) error {
	ex.header().Set("Connection", "close")
	return fault.New(fault.BodyTooLarge, "The body is larger than the limit of %d bytes.", s.MaxBodyBytes)
}

// checkBodyHeaders refuses what would only fail as broken JSON. No Content-Type counts as JSON.
func checkBodyHeaders(header http.Header) error {
	if encoding := header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return fault.New(fault.InvalidValue, "Content-Encoding must be absent, not %.100q: bodies are taken uncompressed.", encoding)
	}
	sent := header.Get("Content-Type")
	if sent == "" {
		return nil
	}
	if kind, _, err := mime.ParseMediaType(sent); err != nil || kind != "application/json" {
		return fault.New(fault.InvalidValue, "Content-Type must be application/json, not %.100q.", sent)
	}
	return nil
}
