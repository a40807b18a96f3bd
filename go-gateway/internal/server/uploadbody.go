package server

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/files"
)

// uploadBody is a body that is read as it comes: it may stand still for TransferStall, and has MinTransferRate. Its errors are
// *fault.Fault.
type uploadBody struct {
	ex         *exchange
	body       io.Reader
	controller *http.ResponseController
	start      time.Time
	received   int64
	err        error // for good; io.EOF at the end
}

func (s *Server) newUploadBody(ex *exchange) *uploadBody {
	b := &uploadBody{ex: ex, body: ex.request.Body, controller: http.NewResponseController(ex.writer), start: time.Now()}
	if s.Files != nil {
		b.body = http.MaxBytesReader(ex.writer, ex.request.Body, s.Files.MaxBytes+files.FormBytes)
	}
	return b
}

// Read implements io.Reader.
func (b *uploadBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if err := b.controller.SetReadDeadline(paceDeadline(b.ex.server, b.start, b.received)); err != nil {
		b.err = fault.InternalError(err)
		return 0, b.err
	}
	n, err := b.body.Read(p)
	b.received += int64(n)
	if err != nil {
		b.err = b.explain(err)
		b.ex.drained = true // as far as it will come
	}
	return n, b.err
}

func (b *uploadBody) explain(err error) error {
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	b.ex.hangUp()
	server := b.ex.server
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return fault.InField(fault.BodyTooLarge, "file", "The body is larger than a file may be (%d bytes), with the form around it.", server.Files.MaxBytes)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fault.New(fault.BodyTimeout, "The upload stood still for %v, or had less than %d bytes a second.", server.TransferStall, server.MinTransferRate)
	}
	return b.ex.torn(err, fault.InvalidValue)
}

// end reads what is behind the form, so that the connection is of further use.
func (b *uploadBody) end() error {
	_, err := io.Copy(io.Discard, b)
	return err
}

// drain reads the rest of a refused upload, at the pace that it must have anyway: a client that sends first and reads
// afterwards, as SDKs do, would otherwise see a reset connection in place of its refusal. One that waits for leave to send,
// and one that announced too much, are told without that.
func (b *uploadBody) drain() {
	r, s, tenant := b.ex.request, b.ex.server, b.ex.principal.Tenant
	if b.err != nil || b.ex.drained || r.Header.Get("Expect") != "" || r.ContentLength > s.Files.MaxBytes+files.FormBytes {
		return
	}
	if s.drains.TryAcquire(tenant, 1) {
		defer s.drains.Release(tenant, 1)
		_ = b.end()
	}
}

// paceDeadline is until when the next bytes must be through.
func paceDeadline(s *Server, start time.Time, through int64) time.Time {
	stall := time.Now().Add(s.TransferStall)
	pace := start.Add(s.TransferStall + time.Duration(float64(through)/float64(max(1, s.MinTransferRate))*float64(time.Second)))
	if pace.Before(stall) {
		return pace
	}
	return stall
}
