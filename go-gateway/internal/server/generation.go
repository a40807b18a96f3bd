package server

import (
	"log/slog"
	"net/http"
	"time"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/openai"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

// generation serves POST /v1/chat/completions and POST /v1/completions, which differ in what they look like.
func (s *Server) generation(decode func(body []byte) (*openai.GenerationRequest, error)) bodyHandler {
	return func(ex *exchange, r *http.Request, body []byte) error {
		start := time.Now()
		request, err := decode(body)
		if err != nil {
			return err
		}
		request.Generate.Scheduling = ex.scheduling()
		ctx := engine.Outgoing(r.Context(), ex.requestID, ex.traceparent)
		running := s.Engine.Generate(ctx, request.Generate)
		defer running.Close() // also when the client stops reading: nothing is generated for nobody
		progress := &tally{ex: ex, model: request.Generate.GetModel(), start: start}
		defer progress.note()
		if request.Stream {
			return s.stream(ex, request, running, progress)
		}
		return s.collect(ex, request, running, progress)
	}
}

// collect replies once everything is there.
func (s *Server) collect(ex *exchange, request *openai.GenerationRequest, running *engine.Generation, progress *tally) error {
	reply := openai.NewGenerationReply(request)
	for delta := range running.Deltas() {
		progress.add(delta)
		if err := reply.Add(delta); err != nil {
			return fault.InternalError(err)
		}
	}
	done, err := running.Result()
	if err != nil {
		return request.InHTTPTerms(fault.Of(err))
	}
	body, err := reply.Render(done, objectID(), ex.start)
	if err != nil {
		return fault.InternalError(err)
	}
	progress.end(done, progress.phases(done.GetTimings()))
	ex.reply(http.StatusOK, body)
	return nil
}

// tally follows a generation for headers, log and metrics.
type tally struct {
	ex         *exchange
	model      string
	start      time.Time     // when the request was here
	firstToken time.Duration // 0 while there is none
	told       uint64        // tokens
	finishes   []string
	done       *inferencev1.GenerateDone
}

// add takes one step.
func (t *tally) add(delta *inferencev1.GenerateDelta) {
	t.ex.model = t.model
	t.told += uint64(len(delta.GetTokens()))
	if t.firstToken == 0 && t.told > 0 {
		t.firstToken = time.Since(t.start)
		t.ex.phases = []openai.Phase{{Name: "first_token", Took: t.firstToken}}
	}
	if finish := delta.GetFinish(); finish != nil {
		t.finishes = append(t.finishes, openai.FinishReason(finish))
	}
}

// phases says where the time went.
func (t *tally) phases(timings *inferencev1.GenerateTimings) []openai.Phase {
	return append([]openai.Phase{
		{Name: "tokenize", Took: timings.GetTokenize().AsDuration()},
		{Name: "queue", Took: timings.GetQueue().AsDuration()},
		{Name: "prefill", Took: timings.GetPrefill().AsDuration()},
		{Name: "decode", Took: timings.GetDecode().AsDuration()},
	}, t.ex.phases...)
}

// end takes the hot path's sum, which is what is charged.
func (t *tally) end(done *inferencev1.GenerateDone, phases []openai.Phase) {
	t.done, t.ex.model = done, t.model
	t.ex.tokens = uint64(done.GetPromptTokens()) + uint64(done.GetCompletionTokens())
	t.ex.phases = phases
}

// note leaves what is known at the end, be it a broken one.
func (t *tally) note() {
	if t.ex.model == "" {
		return
	}
	metrics := t.ex.server.Metrics
	if t.firstToken > 0 {
		metrics.FirstTokenSeconds.WithLabelValues(t.model).Observe(t.firstToken.Seconds())
	}
	for _, reason := range t.finishes {
		metrics.Finishes.WithLabelValues(t.model, reason).Inc()
	}
	t.ex.work = []slog.Attr{slog.Uint64("completion_tokens", t.told)}
	if len(t.finishes) > 0 {
		t.ex.work = append(t.ex.work, slog.Any("finish_reasons", t.finishes))
	}
	if t.done == nil {
		return
	}
	metrics.GeneratedTokens.WithLabelValues(t.ex.tenant, t.model).Add(float64(t.done.GetCompletionTokens()))
	metrics.CachedTokens.WithLabelValues(t.ex.tenant, t.model).Add(float64(t.done.GetCachedTokens()))
	t.ex.work = append(t.ex.work,
		slog.Uint64("prompt_tokens", uint64(t.done.GetPromptTokens())), slog.Uint64("cached_tokens", uint64(t.done.GetCachedTokens())))
}
