package server

import (
	"log/slog"
	"net/http"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/openai"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

// embeddings serves POST /v1/embeddings.
func (s *Server) embeddings(ex *exchange, r *http.Request, body []byte) error {
	request, err := openai.DecodeEmbeddings(body)
	if err != nil {
		return err
	}
	request.Embed.Scheduling = ex.scheduling()
	ctx := engine.Outgoing(r.Context(), ex.requestID, ex.traceparent)
	result, err := s.Engine.Embed(ctx, request.Embed)
	if err != nil {
		return openai.InHTTPTerms(fault.Of(err), request.SingleInput)
	}
	reply, err := openai.AppendEmbeddings(s.buffers.get(), request, result)
	if err != nil {
		return fault.InternalError(err)
	}
	defer s.buffers.put(reply)
	ex.ran(request.Embed.GetModel(), len(request.Embed.GetInputs()), result.GetTokenCounts(), result.GetTimings())
	ex.reply(http.StatusOK, reply)
	return nil
}

// moderations serves POST /v1/moderations.
func (s *Server) moderations(ex *exchange, r *http.Request, body []byte) error {
	request, err := openai.DecodeModeration(body, s.ModerationModel)
	if err != nil {
		return err
	}
	request.Classify.Scheduling = ex.scheduling()
	ctx := engine.Outgoing(r.Context(), ex.requestID, ex.traceparent)
	result, err := s.Engine.Classify(ctx, request.Classify)
	if err != nil {
		return openai.InHTTPTerms(fault.Of(err), request.SingleInput)
	}
	reply, err := openai.RenderModeration(request, result, objectID())
	if err != nil {
		return fault.InternalError(err)
	}
	ex.ran(request.Classify.GetModel(), len(request.Classify.GetTexts()), result.GetTokenCounts(), result.GetTimings())
	ex.reply(http.StatusOK, reply)
	return nil
}

// scheduling gives each tenant a turn of its own.
func (ex *exchange) scheduling() *inferencev1.Scheduling {
	return &inferencev1.Scheduling{FairnessKey: ex.tenant, Priority: inferencev1.Priority_PRIORITY_INTERACTIVE}
}

// ran notes what the hot path did.
func (ex *exchange) ran(model string, inputs int, tokenCounts []uint32, timings *inferencev1.Timings) {
	ex.model, ex.tokens, ex.phases = model, openai.Tokens(tokenCounts), phasesOf(timings)
	ex.work = []slog.Attr{slog.Int("inputs", inputs), slog.Uint64("tokens", ex.tokens)}
}

// tokenize serves POST /v1/tokenize.
func (s *Server) tokenize(ex *exchange, r *http.Request, body []byte) error {
	request, err := openai.DecodeTokenize(body, engine.MostBytesToTokenize)
	if err != nil {
		return err
	}
	request.Tokenize.Scheduling = ex.scheduling()
	ctx := engine.Outgoing(r.Context(), ex.requestID, ex.traceparent)
	result, err := s.Engine.Tokenize(ctx, request.Tokenize)
	if err != nil {
		return openai.InHTTPTerms(fault.Of(err), request.SingleInput)
	}
	reply, err := openai.RenderTokenize(request, result)
	if err != nil {
		return fault.InternalError(err)
	}
	ex.reply(http.StatusOK, reply)
	return nil
}
