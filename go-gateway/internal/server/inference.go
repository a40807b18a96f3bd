package server

import (
	"context"
	"net/http"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/inference"
	"triptych.dev/gateway/internal/openai"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/strictjson"
)

// revisionHeader says which revision of the model made the reply. What GET /v1/models says is a second old: whoever keeps
// vectors has to know it of each.
const revisionHeader = "X-Model-Revision"

// unary serves calls whose whole reply comes at once.
func unary[Request interface{ Explain(error) *fault.Fault }, Reply any](
	s *Server,
	decode func(body []byte, ignored *strictjson.Names) (Request, error),
	run func(context.Context, inference.Call, Request) (Reply, inference.Usage, error),
	render func(Request, Reply) ([]byte, error),
) handler {
	return func(ex *exchange) error {
		request, err := decoded(ex, decode)
		if err != nil {
			return err
		}
		reply, usage, err := run(ex.request.Context(), ex.call(), request)
		ex.usage = &usage
		if err != nil {
			return request.Explain(err)
		}
		body, err := render(request, reply)
		if err != nil {
			return fault.InternalError(err)
		}
		defer s.buffers.put(body)
		if told, ok := any(reply).(interface{ GetRevision() string }); ok {
			ex.header().Set(revisionHeader, told.GetRevision())
		}
		ex.reply(http.StatusOK, body)
		return nil
	}
}

// embeddings serves POST /v1/embeddings.
func (s *Server) embeddings() handler {
	return unary(s, s.Decoder.Embeddings,
		func(ctx context.Context, call inference.Call, request *openai.EmbeddingsRequest) (
			*inferencev1.EmbedResponse, inference.Usage, error,
		) {
			return s.Inference.Embed(ctx, call, request.Embed)
		},
		func(request *openai.EmbeddingsRequest, reply *inferencev1.EmbedResponse) ([]byte, error) {
			return openai.AppendEmbeddings(s.buffers.get(), request, reply)
		})
}

// moderations serves POST /v1/moderations.
func (s *Server) moderations() handler {
	return unary(s, s.Decoder.Moderation,
		func(ctx context.Context, call inference.Call, request *openai.ModerationRequest) (
			*inferencev1.ClassifyResponse, inference.Usage, error,
		) {
			return s.Inference.Classify(ctx, call, request.Classify)
		},
		func(request *openai.ModerationRequest, reply *inferencev1.ClassifyResponse) ([]byte, error) {
			return openai.RenderModeration(request, reply, objectID())
		})
}

// tokenize serves POST /v1/tokenize.
func (s *Server) tokenize() handler {
	return unary(s, s.Decoder.Tokenize,
		func(ctx context.Context, call inference.Call, request *openai.TokenizeRequest) (
			*inferencev1.TokenizeResponse, inference.Usage, error,
		) {
			return s.Inference.Tokenize(ctx, call, request.Tokenize)
		},
		openai.RenderTokenize)
}
