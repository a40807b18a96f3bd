package files

import (
	"context"
	"errors"
	"fmt"

	"triptych.dev/gateway/internal/blob"
	"triptych.dev/gateway/internal/store"
)

const (
	blobsPage = 1000
	// maxFaults are told; more are counted.
	maxFaults = 10
)

// Contents are what files of all tenants have in a folder.
type Contents struct {
	Count  int
	Lost   int      // those that are not there, or not as their files say
	Faults []string // the first of these
}

// Err says what is lost.
func (c Contents) Err() error {
	if c.Lost == 0 {
		return nil
	}
	return fmt.Errorf("the contents of %d files are not there, or not as they were: %s", c.Lost, fmt.Sprint(c.Faults))
}

// CheckContents looks for each content that a row names: whether it is there and as long, and with whole, whether it is
// what its name says, for which all of it is read.
func CheckContents(ctx context.Context, rows *store.Store, blobs *blob.Folder, whole bool) (Contents, error) {
	return eachContent(ctx, rows, func(id blob.ID, bytes int64) error {
		size, err := blobs.Size(id)
		if err == nil && size != bytes {
			err = fmt.Errorf("%w: %v has %d bytes, not %d", blob.ErrDamaged, id, size, bytes)
		}
		if err == nil && whole {
			err = blobs.Verify(ctx, id)
		}
		return err
	})
}

// BackUpContents makes each content that a row names one of another folder too, as a link where that can be. What is there
// already is not copied again.
func BackUpContents(ctx context.Context, rows *store.Store, from, to *blob.Folder) (Contents, error) {
	return eachContent(ctx, rows, func(id blob.ID, _ int64) error { return from.LinkTo(ctx, to, id) })
}

// RestoreContents copies what a backup's folder has. Links would be the same files as the backup's.
func RestoreContents(ctx context.Context, from, to *blob.Folder) error {
	return from.Each(ctx, func(id blob.ID) error { return from.CopyTo(ctx, to, id) })
}

// eachContent visits the contents that rows name, and counts those that are lost.
func eachContent(ctx context.Context, rows *store.Store, visit func(id blob.ID, bytes int64) error) (found Contents, err error) {
	for after := ""; ; {
		page, err := rows.BlobsPage(ctx, after, blobsPage)
		if err != nil || len(page) == 0 {
			return found, err
		}
		for _, row := range page {
			id, err := blob.ParseID(row.SHA256)
			if err == nil {
				err = visit(id, row.Bytes)
			}
			if err != nil && !errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrDamaged) {
				return found, err
			}
			found.Count++
			if err == nil {
				continue
			}
			if found.Lost++; found.Lost <= maxFaults {
				found.Faults = append(found.Faults, fmt.Sprintf("%s: %v", row.SHA256, err))
			}
		}
		after = page[len(page)-1].SHA256
	}
}
