package server

import (
	"context"
	"net/http"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/inference"
	"triptych.dev/gateway/internal/openai"
	"triptych.dev/gateway/internal/quota"
)

// getLimits serves GET /v1/limits: the caller's own, and why its latest requests were refused.
func (s *Server) getLimits(ex *exchange) error {
	report, err := s.limitsOf(ex.request.Context(), ex.principal)
	if err != nil {
		return err
	}
	ex.tellLimits()
	body, err := openai.RenderLimits(report)
	if err != nil {
		return fault.InternalError(err)
	}
	ex.reply(http.StatusOK, body)
	return nil
}

// limitsOf are a principal's limits, of each class that its requests may have.
func (s *Server) limitsOf(ctx context.Context, of identity.Principal) (openai.LimitsReport, error) {
	report := openai.LimitsReport{
		Tenant: of.Tenant, Plan: of.Plan.Name, Classes: map[quota.Class]quota.Report{},
		Degraded: s.LimitsDegraded != nil && s.LimitsDegraded(),
	}
	for class := of.Scopes.Class; class < quota.Classes; class++ {
		found, err := s.Inference.Report(ctx, inference.Call{Principal: of, Priority: class})
		if err != nil {
			return openai.LimitsReport{}, err
		}
		report.Classes[class] = found
	}
	return report, nil
}
