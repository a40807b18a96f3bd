package server

import (
	"maps"
	"net/http"
	"regexp"
	"slices"

	"triptych.dev/gateway/internal/batch"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/openai"
	"triptych.dev/gateway/internal/store"
)

const (
	batchesRoute = "/v1/batches"
	// Pages of batches are OpenAI's.
	defaultBatchesPage, maxBatchesPage = 20, 100
)

// batchID is what ids of batches look like: no other text reaches the database.
var batchID = regexp.MustCompile(`^batch_[0-9a-f]{32}$`)

// withBatches refuses requests where there are no batches, for lack of files.
func (s *Server) withBatches(next handler) handler {
	return func(ex *exchange) error {
		if s.Batches == nil {
			return fault.New(fault.NotEnabled, "This gateway runs no batches, since it keeps no files: its setting `blobs` names no folder for them.")
		}
		return next(ex)
	}
}

// createBatch serves POST /v1/batches.
func (s *Server) createBatch(ex *exchange) error {
	asked, err := decoded(ex, s.Decoder.Batch)
	if err != nil {
		return err
	}
	if !s.CallsModel(asked.Endpoint) {
		return fault.InField(fault.InvalidValue, "endpoint", "endpoint must be one of %s, not %.64q.",
			fault.Listed(slices.Sorted(maps.Keys(s.calls)), 0), asked.Endpoint)
	}
	if !fileID.MatchString(asked.File) {
		return files.NotFoundBy("input_file_id", asked.File)
	}
	return createFromJSON(ex, http.StatusOK, renderedBatch, func(answering store.Answering[store.Batch]) (store.Batch, error) {
		return s.Batches.Create(ex.request.Context(), ex.principal, asked, answering)
	})
}

func renderedBatch(batch store.Batch) (created, error) {
	body, err := openai.RenderBatch(batch)
	return created{batch.ID, body}, err
}

// listBatches serves GET /v1/batches.
func (s *Server) listBatches(ex *exchange) error {
	asked, err := query(ex, "limit", "after")
	if err != nil {
		return err
	}
	most := defaultBatchesPage
	if limit, said := asked["limit"]; said {
		if most, err = parseLimit(limit, maxBatchesPage); err != nil {
			return err
		}
	}
	after, said := asked["after"]
	if said && !batchID.MatchString(after) {
		return fault.InField(fault.InvalidValue, "after", "after must be the id of a batch, not %.64q.", after)
	}
	list, more, err := s.Batches.Page(ex.request.Context(), ex.principal.Tenant, after, most)
	if err != nil {
		return err
	}
	return ex.replyWith(openai.RenderBatches(list, more))
}

// getBatch serves GET /v1/batches/{id}.
func (s *Server) getBatch(ex *exchange) error {
	id, err := ex.batchID()
	if err != nil {
		return err
	}
	found, err := s.Batches.Find(ex.request.Context(), ex.principal.Tenant, id)
	if err != nil {
		return err
	}
	return ex.replyWith(openai.RenderBatch(found))
}

// cancelBatch serves POST /v1/batches/{id}/cancel.
func (s *Server) cancelBatch(ex *exchange) error {
	id, err := ex.batchID()
	if err != nil {
		return err
	}
	cancelled, err := s.Batches.Cancel(ex.request.Context(), ex.principal.Tenant, id)
	if err != nil {
		return err
	}
	return ex.replyWith(openai.RenderBatch(cancelled))
}

// batchID is the id in the path.
func (ex *exchange) batchID() (string, error) {
	id := ex.request.PathValue("id")
	if !batchID.MatchString(id) {
		return "", batch.NotFound(id)
	}
	return id, nil
}
