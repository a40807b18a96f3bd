package server

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/tracing"
)

const (
	// initialBodyBytes is what a body of unknown length gets at first. It grows by doubling.
	initialBodyBytes = 64 << 10 // bytes
	// requestBytes is what a request takes beside its body: a goroutine, the buffers of its connection, headers.
	requestBytes = 16 << 10
	// guaranteedBytes of bodies each tenant gets: a small request or two.
	guaranteedBytes = 64 << 10
)

// holdBytes makes a request hold the bytes that its body is announced to have, to the request's end: decoded they are
// still there. While its body arrives, a request holds bytes and no slot: a client that sends half a body keeps nobody
// from being served.
func (s *Server) holdBytes(next handler) handler {
	return func(ex *exchange) error {
		start := s.Now()
		defer func() { s.bodies.ReleaseAfter(ex.principal.Tenant, ex.held, s.Now().Sub(start)) }()
		if err := s.hold(ex, s.announcedBytes(ex.request)); err != nil {
			return err
		}
		return next(ex)
	}
}

// hold makes a request hold so many bytes more.
func (s *Server) hold(ex *exchange, more int64) error {
	if !s.bodies.TryAcquire(ex.principal.Tenant, more) {
		return noRoom("bytes of request bodies at once", s.bodies, more)
	}
	ex.held += more
	return nil
}

// announcedBytes is what a request takes before its body is read.
func (s *Server) announcedBytes(r *http.Request) int64 {
	switch length := r.ContentLength; {
	case length > int64(s.MaxBodyBytes): // will be refused
		return requestBytes
	case length < 0: // unknown
		return requestBytes + initialBodyBytes
	default:
		return requestBytes + length
	}
}

// receivingBody is the span of waiting for what a client sends.
const receivingBody = "receive body"

// readBody lets a request through once its whole body is here. What was announced of it is held already.
func (s *Server) readBody(next handler) handler {
	return func(ex *exchange) (err error) {
		_, span := tracing.Start(ex.request.Context(), receivingBody)
		ex.body, err = s.receive(ex)
		span.End(fault.Outcome(err))
		if err != nil {
			return err
		}
		return next(ex)
	}
}

// receive returns the whole request body.
func (s *Server) receive(ex *exchange) ([]byte, error) {
	r := ex.request
	if err := checkBodyHeaders(r.Header); err != nil {
		return nil, err
	}
	if r.ContentLength > int64(s.MaxBodyBytes) {
		return nil, s.bodyTooLarge(ex)
	}
	deadline := time.Now().Add(s.BodyTimeout)
	own, hasOwn := r.Context().Deadline()
	if hasOwn && own.Before(deadline) {
		deadline = own
	}
	if err := http.NewResponseController(ex.writer).SetReadDeadline(deadline); err != nil {
		return nil, fault.InternalError(fmt.Errorf("body deadline: %w", err))
	}
	// net/http lifts the deadline at the body's end, so it does not cut off the wait for the hot path.
	body, err := s.readAll(ex)
	if _, refused := errors.AsType[*fault.Fault](err); refused {
		return nil, err
	}
	ex.drained = true // as far as it will come
	if err == nil {
		return body, nil
	}
	ex.hangUp()
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, s.bodyTooLarge(ex)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && deadline.Equal(own):
		return nil, ex.timeOver()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fault.New(fault.BodyTimeout, "The body did not arrive within %v.", s.BodyTimeout)
	default:
		return nil, ex.torn(err, fault.InvalidJSON)
	}
}

// torn is the fault of a body that does not come to its end: its client went away, or else it is wrong for a reason.
func (ex *exchange) torn(err error, wrong fault.Reason) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || ex.request.Context().Err() != nil || ex.multiplexed() { // HTTP/2 has no such encoding
		return clientGone(err)
	}
	return fault.New(wrong, "The body could not be read to its end: its transfer encoding is broken.")
}

// readAll reads a body into memory that is held: of the announced length, or growing as it comes.
func (s *Server) readAll(ex *exchange) ([]byte, error) {
	reader := http.MaxBytesReader(ex.writer, ex.request.Body, int64(s.MaxBodyBytes))
	if length := ex.request.ContentLength; length >= 0 {
		body := make([]byte, length)
		_, err := io.ReadFull(reader, body)
		return body, err
	}
	body := make([]byte, 0, initialBodyBytes)
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
			if err := s.hold(ex, int64(more)); err != nil {
				return nil, err
			}
			body = append(make([]byte, 0, cap(body)+more), body...)
		}
	}
}

// drain reads what is still to come of a refused body, as far as bodies are taken: a client that sends first and reads
// afterwards, as most do, would otherwise see a reset connection in place of its refusal. Strangers get no such
// service.
func (s *Server) drain(ex *exchange) {
	r := ex.request
	if ex.principal.Tenant == "" || ex.drained || r.ContentLength == 0 || r.Header.Get("Expect") != "" {
		return
	}
	ex.drained = true
	if s.drains.TryAcquire(ex.principal.Tenant, 1) {
		defer s.drains.Release(ex.principal.Tenant, 1)
		if http.NewResponseController(ex.writer).SetReadDeadline(time.Now().Add(s.BodyTimeout)) == nil {
			if _, err := io.CopyN(io.Discard, r.Body, int64(s.MaxBodyBytes)+1); errors.Is(err, io.EOF) {
				return
			}
		}
	}
	ex.hangUp()
}

func (s *Server) bodyTooLarge(ex *exchange) error {
	ex.hangUp()
	return fault.New(fault.BodyTooLarge, "The body is larger than the limit of %d bytes.", s.MaxBodyBytes)
}

// checkBodyHeaders refuses what would only fail as broken JSON. No Content-Type counts as JSON.
func checkBodyHeaders(header http.Header) error {
	if err := checkEncoding(header); err != nil {
		return err
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

func checkEncoding(header http.Header) error {
	if encoding := header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return fault.New(fault.InvalidValue, "Content-Encoding must be absent, not %.100q: bodies are taken uncompressed.", encoding)
	}
	return nil
}
