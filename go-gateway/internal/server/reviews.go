package server

import (
	"regexp"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/jobs"
	"triptych.dev/gateway/internal/openai"
	"triptych.dev/gateway/internal/store"
)

const (
	moderationsRoute = "/v1/moderations"
	reviewsRoute     = "/v1/moderation_reviews"
)

// reviewID is what ids of reviews look like: no other text reaches the database.
var reviewID = regexp.MustCompile(`^modrev_[0-9a-f]{32}_[0-9]{5}$`)

// reviewStatuses are what a list may be asked for.
var reviewStatuses = map[string]store.ReviewStatus{"pending": store.PendingReview, "decided": store.DecidedReview}

// checkThresholds refuses those of a job that calls another endpoint.
func checkThresholds(asked jobs.Asked) error {
	if asked.Thresholds != nil && asked.Endpoint != moderationsRoute {
		return fault.InField(fault.InvalidValue, "thresholds", "thresholds are for jobs whose endpoint is %q, not %q.", moderationsRoute, asked.Endpoint)
	}
	return nil
}

// listReviews serves GET /v1/moderation_reviews.
func (s *Server) listReviews(ex *exchange) error {
	asked, err := query(ex, "limit", "after", "status")
	if err != nil {
		return err
	}
	after, most, err := readPage(asked, reviewID, "review")
	if err != nil {
		return err
	}
	status, known := reviewStatuses[asked["status"]]
	if _, said := asked["status"]; said && !known {
		return fault.InField(fault.InvalidValue, "status", "status must be \"pending\" or \"decided\", not %.64q.", asked["status"])
	}
	list, more, err := s.Jobs.Reviews(ex.request.Context(), ex.principal.Tenant, status, after, most)
	if err != nil {
		return err
	}
	return ex.replyWith(openai.RenderReviews(list, more))
}

// getReview serves GET /v1/moderation_reviews/{id}.
func (s *Server) getReview(ex *exchange) error {
	id, err := ex.reviewID()
	if err != nil {
		return err
	}
	found, err := s.Jobs.FindReview(ex.request.Context(), ex.principal.Tenant, id)
	if err != nil {
		return err
	}
	return ex.replyWith(openai.RenderReview(found))
}

// decideReview serves POST /v1/moderation_reviews/{id}.
func (s *Server) decideReview(ex *exchange) error {
	id, err := ex.reviewID()
	if err != nil {
		return err
	}
	decision, err := decoded(ex, s.Decoder.ReviewDecision)
	if err != nil {
		return err
	}
	decided, err := s.Jobs.Decide(ex.request.Context(), ex.principal, id, decision)
	if err != nil {
		return err
	}
	return ex.replyWith(openai.RenderReview(decided))
}

// reviewID is the id in the path.
func (ex *exchange) reviewID() (string, error) { return ex.pathID("id", reviewID, jobs.ReviewNotFound) }
