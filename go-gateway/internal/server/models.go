package server

import (
	"net/http"
	"slices"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/openai"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

// listModels serves GET /v1/models.
func (s *Server) listModels(ex *exchange) error {
	models, err := s.Engine.Models()
	if err != nil {
		return err
	}
	reply, err := openai.RenderModels(models)
	if err != nil {
		return fault.InternalError(err)
	}
	ex.reply(http.StatusOK, reply)
	return nil
}

// getModel serves GET /v1/models/{id}.
func (s *Server) getModel(ex *exchange) error {
	models, err := s.Engine.Models()
	if err != nil {
		return err
	}
	id := s.Decoder.Resolve(ex.request.PathValue("id"))
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
