package server

import (
	"net/http"
	"slices"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/openai"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

// listModels serves GET /v1/models: those that the key may use.
func (s *Server) listModels(ex *exchange) error {
	models, err := s.Engine.Models()
	if err != nil {
		return err
	}
	// Not in place: the list is everybody's.
	seen := make([]*inferencev1.Model, 0, len(models))
	for _, model := range models {
		if s.Inference.Permit(ex.principal, model.GetName()) == nil {
			seen = append(seen, model)
		}
	}
	reply, err := openai.RenderModels(seen)
	if err != nil {
		return fault.InternalError(err)
	}
	ex.reply(http.StatusOK, reply)
	return nil
}

// getModel serves GET /v1/models/{id}.
func (s *Server) getModel(ex *exchange) error {
	id := s.Decoder.Resolve(ex.request.PathValue("id"))
	if err := s.Inference.Permit(ex.principal, id); err != nil {
		return err
	}
	models, err := s.Engine.Models()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(models, func(model *inferencev1.Model) bool { return model.GetName() == id })
	if i < 0 {
		return fault.InField(fault.ModelNotFound, "model", "There is no model %.64q here; GET /v1/models lists them.", id)
	}
	reply, err := openai.RenderModel(models[i])
	if err != nil {
		return fault.InternalError(err)
	}
	ex.reply(http.StatusOK, reply)
	return nil
}
