package server

import (
	"net/http"
	"regexp"
	"slices"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/openai"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/tracing"
)

const (
	filesRoute = "/v1/files"
	// maxFilesPage is OpenAI's, and its default.
	maxFilesPage = 10_000
)

// fileID is what ids of files look like: no other text reaches the database.
var fileID = regexp.MustCompile(`^file-[0-9a-f]{32}$`)

// withFiles refuses requests where there are no files.
func (s *Server) withFiles(next handler) handler {
	return withBlobs(s.Files != nil, "keeps no files", next)
}

// withBlobs refuses requests for what is not there, for lack of a folder for contents.
func withBlobs(there bool, lacks string, next handler) handler {
	if there {
		return next
	}
	return func(*exchange) error {
		return fault.New(fault.NotEnabled, "This gateway %s: its setting `blobs` names no folder for them.", lacks)
	}
}

// uploadFile serves POST /v1/files.
func (s *Server) uploadFile(ex *exchange) (err error) {
	body := s.newUploadBody(ex)
	defer func() {
		if err != nil {
			body.drain()
		}
	}()
	form, err := newUploadForm(ex, body)
	if err != nil {
		return err
	}
	creation, err := newCreation(ex, http.StatusOK)
	if err != nil {
		return err
	}
	defer creation.close()
	owner := ex.principal
	if creation.before != nil { // nothing more is to be stored
		owner.Plan.StoredFiles, owner.Plan.StoredBytes = 0, 0
	}
	upload, err := s.Files.Begin(ex.request.Context(), owner, ex.request.ContentLength)
	if err != nil {
		return creation.refused(err)
	}
	defer upload.Close()
	_, span := tracing.Start(ex.request.Context(), receivingBody)
	about, err := form.receive(ex.request.Context(), upload)
	if err != nil {
		span.End(fault.Outcome(err))
		return creation.refused(err)
	}
	err = body.end()
	span.End(fault.Outcome(err))
	if err != nil {
		return err
	}
	return create(creation, uploadFields(about, upload.SHA256()), renderedFile, func(answering store.Answering[store.File]) (store.File, error) {
		return upload.Finish(ex.request.Context(), about, answering)
	})
}

// uploadFields are compared rather than the bytes that were sent: a form has other boundaries each time.
func uploadFields(about files.About, sha256 string) comparedFields {
	fields := comparedFields{}
	for name, value := range map[string]string{
		"file": sha256, "filename": about.Name, "purpose": about.Purpose, "expires_after": about.Lifetime.String(),
	} {
		fields.add(name, []byte(value))
	}
	return fields
}

func renderedFile(file store.File) (created, error) {
	body, err := openai.RenderFile(file)
	return created{id: file.ID, body: body}, err
}

// listFiles serves GET /v1/files.
func (s *Server) listFiles(ex *exchange) error {
	asked, err := query(ex, "limit", "after", "order", "purpose")
	if err != nil {
		return err
	}
	page := store.FilesPage{Purpose: asked["purpose"], After: asked["after"], Ascending: asked["order"] == "asc", Most: maxFilesPage}
	if limit, said := asked["limit"]; said {
		if page.Most, err = parseLimit(limit, maxFilesPage); err != nil {
			return err
		}
	}
	if order, said := asked["order"]; said && order != "asc" && order != "desc" {
		return fault.InField(fault.InvalidValue, "order", "order must be \"asc\" or \"desc\", by the time of creation, not %.64q.", order)
	}
	if _, said := asked["after"]; said && !fileID.MatchString(page.After) {
		return fault.InField(fault.InvalidValue, "after", "after must be the id of a file, not %.64q.", page.After)
	}
	known := []string{files.Batch, files.BatchOutput, files.UserData}
	if _, said := asked["purpose"]; said && !slices.Contains(known, page.Purpose) {
		return fault.InField(fault.InvalidValue, "purpose", "purpose must be one of %s, not %.64q.", fault.Listed(known, 0), page.Purpose)
	}
	list, more, err := s.Files.Page(ex.request.Context(), ex.principal.Tenant, page)
	if err != nil {
		return err
	}
	return ex.replyWith(openai.RenderFiles(list, more))
}

// getFile serves GET /v1/files/{id}.
func (s *Server) getFile(ex *exchange) error {
	id, err := ex.fileID()
	if err != nil {
		return err
	}
	stored, err := s.Files.Find(ex.request.Context(), ex.principal.Tenant, id)
	if err != nil {
		return err
	}
	return ex.replyWith(openai.RenderFile(stored))
}

// deleteFile serves DELETE /v1/files/{id}.
func (s *Server) deleteFile(ex *exchange) error {
	id, err := ex.fileID()
	if err != nil {
		return err
	}
	if err := s.Files.Delete(ex.request.Context(), ex.principal.Tenant, id); err != nil {
		return err
	}
	return ex.replyWith(openai.RenderDeletedFile(id))
}

// fileID is the id in the path.
func (ex *exchange) fileID() (string, error) { return ex.pathID("id", fileID, files.NotFound) }

func (ex *exchange) replyWith(body []byte, err error) error {
	if err != nil {
		return fault.InternalError(err)
	}
	ex.reply(http.StatusOK, body)
	return nil
}
