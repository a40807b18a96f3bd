package files

import (
	"context"
	"errors"
	"time"

	"triptych.dev/gateway/internal/blob"
	"triptych.dev/gateway/internal/periodic"
)

const (
	sweepInterval = time.Minute
	// sweepRows expire in one sweep at most; the others do with the next one.
	sweepRows = 1000
	// sweepParts of the blobs are looked at one after the other, so that all are within the time that a blob waits for its
	// row anyway, and no sweep is long.
	sweepParts = int(blob.Grace / sweepInterval)
)

// Watch sweeps until ctx ends.
func (f *Files) Watch(ctx context.Context) {
	periodic.AtOnceAndEvery(ctx, sweepInterval, func(ctx context.Context) {
		err := f.sweep(ctx)
		if ctx.Err() == nil && f.sweeping.Began(err) {
			f.Logger.Warn("files that expired, or contents that no file has, could not be deleted; the next sweep tries again", "cause", err)
		}
	})
}

func (f *Files) observe(ctx context.Context) error {
	if f.Observer == nil {
		return nil
	}
	used, err := f.Store.TotalFileUsage(ctx)
	if err == nil {
		f.Observer.Stored(used.Files, used.Bytes)
	}
	return err
}

// sweep deletes files that have expired, and then blobs that nothing names, of the next part.
func (f *Files) sweep(ctx context.Context) error {
	now := f.Now()
	expired, err := f.Store.ExpireFiles(ctx, now, sweepRows)
	part := blob.Part{N: f.part, Of: sweepParts}
	f.part = (f.part + 1) % sweepParts
	deleted, blobErr := f.Blobs.Sweep(ctx, now, part, func(ctx context.Context, id blob.ID) (bool, error) {
		return f.Store.BlobReferenced(ctx, id.String())
	})
	if expired+deleted > 0 {
		f.Logger.Info("files swept", "expired", expired, "contents", deleted)
	}
	return errors.Join(err, blobErr, f.observe(ctx), f.Store.KeepReserve(f.MinFree))
}
