package server

import (
	"net/http"
	"regexp"

	"triptych.dev/gateway/internal/batch"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/openai"
	"triptych.dev/gateway/internal/store"
)

const batchesRoute = "/v1/batches"

// batchID is what ids of batches look like: no other text reaches the database.
var batchID = regexp.MustCompile(`^batch_[0-9a-f]{32}$`)

// withBatches refuses requests where there are no batches, for lack of files.
func (s *Server) withBatches(next handler) handler {
	return withBlobs(s.Batches != nil, "runs no batches, since it keeps no files", next)
}

// createBatch serves POST /v1/batches.
func (s *Server) createBatch(ex *exchange) error {
	asked, err := decoded(ex, s.Decoder.Batch)
	if err != nil {
		return err
	}
	if err := s.checkEndpoint(asked.Endpoint); err != nil {
		return err
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
	return created{id: batch.ID, body: body}, err
}

// listBatches serves GET /v1/batches.
func (s *Server) listBatches(ex *exchange) error {
	after, most, err := ex.page(batchID, "batch")
	if err != nil {
		return err
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
func (ex *exchange) batchID() (string, error) { return ex.pathID("id", batchID, batch.NotFound) }
