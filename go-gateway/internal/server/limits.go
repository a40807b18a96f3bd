package server

import (
	"net/http"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/openai"
	"triptych.dev/gateway/internal/quota"
)

// getLimits serves GET /v1/limits: the caller's own, and why its latest requests were refused.
func (s *Server) getLimits(ex *exchange) error {
	report := openai.LimitsReport{
		Tenant: ex.principal.Tenant, Plan: ex.principal.Plan.Name, Classes: map[quota.Class]quota.Report{},
		Degraded: s.LimitsDegraded != nil && s.LimitsDegraded(),
	}
	call := ex.call()
	for class := ex.principal.Scopes.Class; class < quota.Classes; class++ { // those that the key's requests may have
		call.Priority = class
		of, err := s.Inference.Report(ex.request.Context(), call)
		if err != nil {
			return err
		}
		report.Classes[class] = of
	}
	ex.setRateLimits(s.Inference.RateLimits(ex.call()))
	body, err := openai.RenderLimits(report)
	if err != nil {
		return fault.InternalError(err)
	}
	ex.reply(http.StatusOK, body)
	return nil
}
