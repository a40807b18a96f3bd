// Package files keeps tenants' files: what is known of them in rows of the store, their contents in a folder of blobs.
//
// A file is there when its row is, which is written last and deleted first. Errors that a user is told of are *fault.Fault.
// It must not depend on HTTP.
package files

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"triptych.dev/gateway/internal/admission"
	"triptych.dev/gateway/internal/blob"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/periodic"
	"triptych.dev/gateway/internal/store"
)

// Options are what files need.
type Options struct {
	Store *store.Store
	Blobs *blob.Folder
	// MaxBytes is the largest file.
	MaxBytes int64
	// MinFree is how many bytes of the blobs' file system uploads leave free.
	MinFree int64
	// MaxUploads is how many there are at once.
	MaxUploads int
	Now        func() time.Time
	Observer   Observer // may be nil
	Logger     *slog.Logger
}

// Observer is told once a minute what the files of all tenants come to.
type Observer interface{ Stored(files, bytes int64) }

// Files are all tenants'. It is safe for concurrent use.
type Files struct {
	Options
	uploads *admission.Pool
	free    func() (int64, error)
	part    int // of the blobs, which the next sweep looks at

	sweeping periodic.Trouble
}

// New returns files that are in a store and a folder.
func New(options Options) *Files {
	return &Files{Options: options, uploads: admission.NewPool(int64(options.MaxUploads), 1), free: options.Blobs.Free}
}

// Find returns a tenant's file.
func (f *Files) Find(ctx context.Context, tenant, id string) (store.File, error) {
	file, err := f.Store.FindFile(ctx, tenant, id, f.Now())
	return file, explain(err, id)
}

// Page returns a part of a tenant's list, and whether more follow it.
func (f *Files) Page(ctx context.Context, tenant string, page store.FilesPage) (list []store.File, more bool, err error) {
	list, more, err = store.PageOf(page.Most, func(most int) ([]store.File, error) {
		page.Most = most
		return f.Store.FilesPage(ctx, tenant, page, f.Now())
	})
	return list, more, explain(err, page.After)
}

// Delete deletes a tenant's file. Its content goes with the next sweeps, unless another file has the same.
func (f *Files) Delete(ctx context.Context, tenant, id string) error {
	return explain(f.Store.DeleteFile(ctx, tenant, id), id)
}

// Open returns a tenant's file and its content, which the caller closes. It can be read to its end even if the file is
// deleted meanwhile.
func (f *Files) Open(ctx context.Context, tenant, id string) (store.File, *os.File, error) {
	file, err := f.Find(ctx, tenant, id)
	if err != nil {
		return store.File{}, nil, err
	}
	hash, err := blob.ParseID(file.SHA256)
	if err != nil {
		return store.File{}, nil, fault.InternalError(err)
	}
	content, err := f.Blobs.Open(hash)
	if errors.Is(err, blob.ErrNotFound) {
		if _, gone := f.Find(ctx, tenant, id); gone != nil { // meanwhile
			return store.File{}, nil, gone
		}
	}
	if err != nil {
		return store.File{}, nil, fault.InternalError(fmt.Errorf("the content of file %s: %w", id, err))
	}
	return file, content, nil
}

// share is what a tenant's files may come to.
func share(plan identity.Plan) store.FileUsage {
	return store.FileUsage{Files: plan.StoredFiles, Bytes: plan.StoredBytes}
}

func explain(err error, id string) error { return Explain(err, NotFound(id)) }

// Explain says what an error of the store, or of the blobs, means for a user who asked for something that may not be there.
// store.ErrAnswered stays as it is: what is answered then is for whoever has the request.
func Explain(err, notFound error) error {
	_, answered := errors.AsType[store.ErrAnswered](err)
	switch {
	case err == nil, answered:
		return err
	case errors.Is(err, store.ErrNotFound):
		return notFound
	case errors.Is(err, store.ErrFull), errors.Is(err, blob.ErrFull):
		return diskFull(err)
	case errors.Is(err, store.ErrUnwritable), errors.Is(err, blob.ErrUnwritable):
		return unwritable(err)
	case errors.Is(err, context.Canceled):
		return &fault.Fault{Reason: fault.Cancelled, Message: "The client went away.", Cause: err}
	default:
		return fault.InternalError(err)
	}
}

// NotFound says that a tenant has no such file.
func NotFound(id string) error { return NotFoundBy("file_id", id) }

// NotFoundBy is NotFound of an id that is in a field.
func NotFoundBy(field, id string) error {
	return fault.InField(fault.FileNotFound, field, "There is no file %.100q; GET /v1/files lists them.", id)
}

// unwritableAgain is when a client may look again: whoever must mend it needs longer than a moment.
const unwritableAgain = 30 * time.Second

func unwritable(cause error) error {
	return &fault.Fault{
		Reason: fault.StorageUnavailable, Cause: cause, RetryAfter: unwritableAgain,
		Message: "What the gateway keeps can be read now, and not be changed. Nothing was stored; repeat the request later.",
	}
}

func diskFull(cause error) error {
	return &fault.Fault{
		Reason: fault.StorageFull, Cause: cause,
		Message: "The gateway's disk has no room for files now. Nothing was stored; deleting files makes room.",
	}
}
