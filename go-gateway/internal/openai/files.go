package openai

import (
	"time"

	"github.com/go-json-experiment/json"

	"triptych.dev/gateway/internal/store"
)

// file is OpenAI's file object. What there is of a file is complete and checked: its status says no more.
type file struct {
	ID            string  `json:"id"`
	Object        string  `json:"object"`
	Bytes         int64   `json:"bytes"`
	CreatedAt     int64   `json:"created_at"` // Unix seconds
	ExpiresAt     *int64  `json:"expires_at"` // null: never
	Filename      string  `json:"filename"`
	Purpose       string  `json:"purpose"`
	Status        string  `json:"status"`
	StatusDetails *string `json:"status_details"`
}

type deletedFile struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Deleted bool   `json:"deleted"`
}

// RenderFile returns the reply to POST /v1/files and GET /v1/files/{id}.
func RenderFile(stored store.File) ([]byte, error) { return json.Marshal(fileObject(stored)) }

// RenderFiles returns the reply to GET /v1/files.
func RenderFiles(stored []store.File, more bool) ([]byte, error) {
	return renderPage(stored, more, func(one store.File) (string, file) { return one.ID, fileObject(one) })
}

// RenderDeletedFile returns the reply to DELETE /v1/files/{id}.
func RenderDeletedFile(id string) ([]byte, error) {
	return json.Marshal(deletedFile{ID: id, Object: "file", Deleted: true})
}

func fileObject(stored store.File) file {
	return file{
		ID: stored.ID, Object: "file", Bytes: stored.Bytes, CreatedAt: stored.Created.Unix(), ExpiresAt: unixSeconds(stored.Expires),
		Filename: stored.Name, Purpose: stored.Purpose, Status: "processed",
	}
}

// unixSeconds is null for the zero time.
func unixSeconds(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	return new(t.Unix())
}
