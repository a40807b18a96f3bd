package server

import (
	"net/http"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/inference"
	"triptych.dev/gateway/internal/openai"
	"triptych.dev/gateway/internal/strictjson"
)

// generation serves POST /v1/chat/completions and POST /v1/completions, which differ in what they look like.
func (s *Server) generation(
	decode func(body []byte, ignored *strictjson.Names) (*openai.GenerationRequest, error),
) handler {
	return func(ex *exchange) error {
		request, err := decoded(ex, decode)
		if err != nil {
			return err
		}
		if request.Stream && ex.detached {
			return fault.InField(fault.UnsupportedParameter, "stream", "`stream` must be absent or false: nobody reads this reply as it comes.")
		}
		// Each prompt is a stream to the hot path, of which a connection has so many: it counts as a request.
		if more := int64(len(request.More)); more > 0 && !ex.detached {
			if !s.slots.TryAcquire(ex.principal.Tenant, more) {
				return noRoom("requests at once", s.slots, more)
			}
			defer s.slots.Release(ex.principal.Tenant, more) // after about as long as its own slot, which is measured
		}
		call := ex.call()
		call.Stream = request.Stream
		running, err := s.Inference.Generate(engine.WithCacheKey(ex.request.Context(), request.CacheKey), call, request.Calls()...)
		if err != nil {
			return request.Explain(err)
		}
		ex.usage = &running.Usage
		defer running.Close() // also when the client stops reading: nothing is generated for nobody
		if request.Stream {
			return s.stream(ex, request, running)
		}
		return s.collect(ex, request, running)
	}
}

// collect replies once everything is there.
func (s *Server) collect(ex *exchange, request *openai.GenerationRequest, running *inference.Generation) error {
	reply := openai.NewGenerationReply(request)
	for more := true; more; more = running.Repeated() {
		for event := range running.Events() {
			running.Observe(event)
			if delta := event.GetDelta(); delta != nil {
				if err := reply.Add(delta); err != nil {
					return fault.InternalError(err)
				}
			}
		}
	}
	done, err := running.Result()
	if err != nil {
		return request.Explain(err)
	}
	body, err := reply.Render(done, objectID(), ex.start)
	if err != nil {
		return fault.InternalError(err)
	}
	ex.reply(http.StatusOK, body)
	return nil
}
