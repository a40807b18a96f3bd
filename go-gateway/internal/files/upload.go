package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"triptych.dev/gateway/internal/blob"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/store"
)

// FormBytes are what the form around a file has at most: fields, boundaries, headers.
const FormBytes = 64 << 10

// Upload is one file on its way in. Nothing is left of it unless it is finished.
type Upload struct {
	files *Files
	owner identity.Principal
	used  store.FileUsage // when it began
	start time.Time
	lines *lineChecker
	draft *blob.Draft
}

// Begin refuses what there is no room for: announced is how many bytes are to come, with the form around them; negative
// where that is not known. The caller closes the upload.
func (f *Files) Begin(ctx context.Context, owner identity.Principal, announced int64) (_ *Upload, err error) {
	if announced > f.MaxBytes+FormBytes {
		return nil, f.tooLarge()
	}
	used, err := f.Store.FileUsage(ctx, owner.Tenant)
	if err != nil {
		return nil, explain(err, "")
	}
	most, least := share(owner.Plan), max(0, announced-FormBytes)
	if (most.Files > 0 && used.Files >= most.Files) || (most.Bytes > 0 && used.Bytes+least > most.Bytes) {
		return nil, shareUsed(owner.Plan, used, least)
	}
	if !f.uploads.TryAcquire(owner.Tenant, 1) {
		return nil, &fault.Fault{Reason: fault.QueueFull, RetryAfter: f.uploads.FreeIn(1), Message: fmt.Sprintf(
			"The gateway takes %d uploads at once, and a tenant may have four times what is left of them. Repeat the request later.", f.uploads.Total())}
	}
	upload := &Upload{files: f, owner: owner, used: used, start: f.Now()}
	if err := f.checkRoom(max(0, announced)); err != nil {
		upload.Close()
		return nil, err
	}
	return upload, nil
}

// Uploads is how many there are now.
func (f *Files) Uploads() int64 { return f.uploads.Used() }

// Close ends an upload, and leaves nothing of one that is not finished.
func (u *Upload) Close() {
	if u.draft != nil {
		u.draft.Discard()
	}
	u.files.uploads.ReleaseAfter(u.owner.Tenant, 1, u.files.Now().Sub(u.start))
}

// Write takes the content, before or after its purpose is known: purpose is empty in the former case. Errors of content
// itself are returned as they are.
func (u *Upload) Write(ctx context.Context, content io.Reader, purpose string) (err error) {
	most, limit := share(u.owner.Plan), u.files.MaxBytes
	if purpose == Batch {
		limit = min(limit, maxBatchBytes)
	}
	if most.Bytes > 0 {
		limit = min(limit, most.Bytes-u.used.Bytes)
	}
	content = &roomChecker{files: u.files, content: content}
	if purpose == "" || purpose == Batch {
		u.lines = &lineChecker{}
		content = io.TeeReader(content, u.lines)
	}
	if purpose == Batch { // what is wrong with a line is told at once; else the purpose must be known first
		content = &failEarly{content, u.lines}
	}
	u.draft, err = u.files.Blobs.Write(ctx, content, limit)
	switch {
	case errors.Is(err, blob.ErrTooLarge) && most.Bytes > 0 && limit == most.Bytes-u.used.Bytes:
		return shareUsed(u.owner.Plan, u.used, limit+1)
	case errors.Is(err, blob.ErrTooLarge) && purpose == Batch && limit == maxBatchBytes:
		return batchTooLarge()
	case errors.Is(err, blob.ErrTooLarge):
		return u.files.tooLarge()
	case errors.Is(err, blob.ErrFull):
		return diskFull(err)
	case errors.Is(err, blob.ErrUnwritable):
		return unwritable(err)
	}
	return err
}

// SHA256 is the hash of what was written, in hexadecimal.
func (u *Upload) SHA256() string { return u.draft.ID.String() }

// Finish makes a file of what was written, which lasts when Finish returns without an error.
func (u *Upload) Finish(ctx context.Context, about About, answering store.Answering[store.File]) (store.File, error) {
	if about.Purpose == Batch {
		if u.draft.Size > maxBatchBytes {
			return store.File{}, batchTooLarge()
		}
		if err := u.lines.end(); err != nil {
			return store.File{}, err
		}
	}
	lifetime, err := Lifetime(about.Lifetime, "expires_after[seconds]", u.owner.Plan)
	if err != nil {
		return store.File{}, err
	}
	now := u.files.Now()
	file := store.File{
		ID: store.NewID("file-", now), Tenant: u.owner.Tenant, Purpose: about.Purpose, Name: about.Name,
		Bytes: u.draft.Size, SHA256: u.draft.ID.String(), Created: now.UTC().Truncate(time.Millisecond),
	}
	if lifetime > 0 {
		file.Expires = file.Created.Add(lifetime)
	}
	answer, err := answering(file)
	if err != nil {
		return store.File{}, err
	}
	if err := u.draft.Keep(); err != nil {
		return store.File{}, explain(err, "")
	}
	err = u.files.Store.AddFile(ctx, u.owner.Tenant, file, share(u.owner.Plan), answer)
	if full, is := errors.AsType[store.ErrShare](err); is { // by others that were uploaded meanwhile
		return store.File{}, shareUsed(u.owner.Plan, full.Used, file.Bytes)
	}
	return file, explain(err, "")
}

func (f *Files) tooLarge() error {
	return &fault.Fault{Reason: fault.BodyTooLarge, Param: "file", Limit: uint64(f.MaxBytes), Message: fmt.Sprintf("The file is larger than the limit of %d bytes.", f.MaxBytes)}
}

func batchTooLarge() error {
	return &fault.Fault{Reason: fault.BodyTooLarge, Param: "file", Limit: maxBatchBytes, Message: fmt.Sprintf("A file of purpose %q has at most %d bytes.", Batch, maxBatchBytes)}
}

// shareUsed says which part of its tenant's share a file of at least so many bytes would exceed.
func shareUsed(plan identity.Plan, used store.FileUsage, bytes int64) error {
	refused := &fault.Fault{Reason: fault.StorageLimited, Param: "file"}
	if plan.StoredFiles > 0 && used.Files >= plan.StoredFiles {
		refused.Limit, refused.Actual = uint64(plan.StoredFiles), uint64(used.Files)
		refused.Message = fmt.Sprintf("The tenant has %d files, and its plan allows %d (stored_files). Delete some: waiting does not help.", used.Files, plan.StoredFiles)
		return refused
	}
	refused.Limit, refused.Actual = uint64(plan.StoredBytes), uint64(used.Bytes+bytes)
	refused.Message = fmt.Sprintf("The tenant's files have %d bytes, and with this one of at least %d they would exceed the %d that its plan allows (stored_bytes). Delete some: waiting does not help.",
		used.Bytes, bytes, plan.StoredBytes)
	return refused
}
