package server

import (
	"errors"
	"net/http"
	"os"
	"strconv"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/inference"
	"triptych.dev/gateway/internal/openai"
	"triptych.dev/gateway/internal/tracing"
)

// stream replies with server-sent events, each as soon as it is there. Until the first of them, or the first heartbeat,
// a failure is an ordinary reply; after that it is the stream's last event.
func (s *Server) stream(ex *exchange, request *openai.GenerationRequest, running *inference.Generation) error {
	chunks, err := openai.NewChunks(request, objectID(), ex.start)
	if err != nil {
		return fault.InternalError(err)
	}
	defer s.Metrics.Tenants.StreamBegan(ex.principal.Tenant)()
	events := eventWriter{ex: ex, chunks: chunks, controller: http.NewResponseController(ex.writer)}
	_, events.span = tracing.Start(ex.request.Context(), "stream")
	err = s.relay(&events, chunks, running)
	if err == nil {
		events.span.Event("last token")
		err = finish(&events, chunks, running)
	}
	events.span.End(fault.Outcome(err))
	switch {
	case err == nil:
		return nil
	case !events.headersSent:
		return request.Explain(err)
	}
	events.fail(request.Explain(err))
	return nil
}

// relay writes what comes until nothing comes any more.
func (s *Server) relay(events *eventWriter, chunks *openai.Chunks, running *inference.Generation) error {
	buffer := s.buffers.get()
	defer func() { s.buffers.put(buffer) }()
	heartbeat := time.NewTicker(s.StreamHeartbeat)
	defer heartbeat.Stop()
	for begun := false; ; {
		buffer = buffer[:0]
		select {
		case event, open := <-running.Events():
			if !open {
				if running.Repeated() {
					continue
				}
				return nil
			}
			running.Observe(event)
			if delta := event.GetDelta(); delta != nil {
				var err error
				if buffer, err = chunks.AppendDelta(buffer, delta); err != nil {
					return fault.InternalError(err)
				}
			}
			if len(buffer) == 0 {
				continue // no whole character yet
			}
			if !begun {
				begun = true
				events.span.Event("first token")
			}
		case <-heartbeat.C:
			buffer = append(buffer, openai.Heartbeat...)
		}
		if err := events.write(buffer); err != nil {
			return err
		}
		heartbeat.Reset(s.StreamHeartbeat)
	}
}

// finish writes how it went.
func finish(events *eventWriter, chunks *openai.Chunks, running *inference.Generation) error {
	done, err := running.Result()
	if err != nil {
		return err
	}
	last, err := chunks.AppendDone(nil, done, running.Usage.Timings())
	if err != nil {
		return fault.InternalError(err)
	}
	return events.write(last)
}

// eventWriter writes a stream of server-sent events. Its errors are *fault.Fault: nobody reads any more.
type eventWriter struct {
	ex          *exchange
	chunks      *openai.Chunks
	controller  *http.ResponseController
	span        *tracing.Span
	headersSent bool
	writeFailed bool // a write failed
}

// write sends whole events to the client now.
func (w *eventWriter) write(events []byte) error {
	if !w.headersSent {
		w.begin()
	}
	// One deadline for each event: a client that does not read must not keep us, and a long stream is no slow one.
	_ = w.controller.SetWriteDeadline(time.Now().Add(w.ex.server.WriteTimeout))
	_, err := w.ex.writer.Write(events)
	if err == nil {
		err = w.controller.Flush()
	}
	if err == nil {
		w.ex.liftWriteDeadline()
		return nil
	}
	w.writeFailed = true
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &fault.Fault{Reason: fault.SlowReader, Cause: err, Message: "The client did not read its stream."}
	}
	return clientGone(err)
}

func (w *eventWriter) begin() {
	w.headersSent = true
	w.ex.status = http.StatusOK
	header := w.ex.header()
	header.Set("Content-Type", "text/event-stream; charset=utf-8")
	header.Set("Cache-Control", "no-cache")
	header.Set("X-Accel-Buffering", "no") // nginx would collect events
	header.Set("X-Request-Id", w.ex.requestID)
	header.Set("Openai-Processing-Ms", strconv.FormatInt(time.Since(w.ex.start).Milliseconds(), 10))
	if w.ex.server.draining.Load() {
		header.Set("Connection", "close")
	}
	w.ex.writer.WriteHeader(http.StatusOK)
}

// fail ends the stream with an error, whose status stands in log and metrics: the one that was sent is long gone.
func (w *eventWriter) fail(failure *fault.Fault) {
	status, event := w.chunks.RenderError(failure, w.ex.requestID)
	w.ex.status, w.ex.failure = status, failure
	if !w.writeFailed {
		_ = w.write(event) // whoever went away meanwhile misses nothing
	}
}
