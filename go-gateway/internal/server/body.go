package server

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"time"

	"triptych.dev/gateway/internal/admission"
	"triptych.dev/gateway/internal/fault"
)

const (
	// usualBody is what a body of unknown length gets at first. It grows by doubling.
	usualBody = 64 << 10 // bytes
	// requestBytes is what a request takes beside its body: a goroutine, the buffers of its connection, headers.
	requestBytes = 16 << 10
	// guaranteedBytes of bodies each tenant gets: a small request or two.
	guaranteedBytes = 64 << 10
)

// bodyBytes are what one request holds of the bytes for bodies.
type bodyBytes struct {
	pool   *admission.Pool
	tenant string
	amount int64
}

// take takes so many more; false if there is no room for them.
func (b *bodyBytes) take(more int64) bool {
	if !b.pool.Take(b.tenant, more) {
		return false
	}
	b.amount += more
	return true
}

func (b *bodyBytes) release() { b.pool.Return(b.tenant, b.amount) }

// announcedBytes is what a request takes before its body is read.
func (s *Server) announcedBytes(r *http.Request) int64 {
	switch length := r.ContentLength; {
	case length > int64(s.MaxBodyBytes): // will be refused
		return requestBytes
	case length < 0: // unknown
		return requestBytes + usualBody
	default:
		return requestBytes + length
	}
}

// readBody returns the whole request body. What was announced of it is held already.
func (s *Server) readBody(ex *exchange, r *http.Request, held *bodyBytes) ([]byte, error) {
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
	body, err := s.readAll(ex, r, held)
	if _, refused := errors.AsType[*fault.Fault](err); refused {
		return nil, err
	}
	ex.drained = true // as far as it will come
	if err == nil {
		return body, nil
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

// readAll reads a body into memory that is held: of the announced length, or growing as it comes.
func (s *Server) readAll(ex *exchange, r *http.Request, held *bodyBytes) ([]byte, error) {
	reader := http.MaxBytesReader(ex.writer, r.Body, int64(s.MaxBodyBytes))
	if r.ContentLength >= 0 {
		body := make([]byte, r.ContentLength)
		_, err := io.ReadFull(reader, body)
		return body, err
	}
	body := make([]byte, 0, usualBody)
	for {
		n, err := reader.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if errors.Is(err, io.EOF) {
			return body, nil
		}
		if err != nil {
			return nil, err
		}
		if len(body) == cap(body) {
			more := max(1, min(cap(body), s.MaxBodyBytes+1-cap(body)))
			if !held.take(int64(more)) {
				return nil, s.noBytes(ex)
			}
			body = append(make([]byte, 0, cap(body)+more), body...)
		}
	}
}

// drain reads what is still to come of a refused body, as far as bodies are taken: a client that sends first and
// reads afterwards, as most do, would otherwise see a reset connection in place of its refusal. Strangers get no such service.
func (s *Server) drain(ex *exchange, r *http.Request) {
	if ex.tenant == "" || ex.drained || r.ContentLength == 0 || r.Header.Get("Expect") != "" {
		return
	}
	ex.drained = true
	if s.drains.Take(ex.tenant, 1) {
		defer s.drains.Return(ex.tenant, 1)
		if http.NewResponseController(ex.writer).SetReadDeadline(time.Now().Add(s.BodyTimeout)) == nil {
			if _, err := io.CopyN(io.Discard, r.Body, int64(s.MaxBodyBytes)+1); errors.Is(err, io.EOF) {
				return
			}
		}
	}
	ex.header().Set("Connection", "close")
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
