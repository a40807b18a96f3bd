package server

import (
	"net/http"

	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/openai"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

// embeddings serves POST /v1/embeddings.
func (s *Server) embeddings(ex *exchange, r *http.Request) error {
	body, err := s.readBody(ex, r)
	if err != nil {
		return err
	}
	request, err := openai.DecodeEmbeddings(body)
	if err != nil {
		return err
	}
	request.Embed.Scheduling = &inferencev1.Scheduling{
		FairnessKey: ex.tenant,
		Priority:    inferencev1.Priority_PRIORITY_INTERACTIVE,
	}
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
	ex.model, ex.inputs = request.Embed.GetModel(), len(request.Embed.GetInputs())
	ex.tokens, ex.timings = openai.Tokens(result.GetTokenCounts()), result.GetTimings()
	ex.reply(http.StatusOK, reply)
	return nil
}

// tokenize serves POST /v1/tokenize.
func (s *Server) tokenize(ex *exchange, r *http.Request) error {
	body, err := s.readBody(ex, r)
	if err != nil {
		return err
	}
	request, err := openai.DecodeTokenize(body)
	if err != nil {
		return err
	}
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
