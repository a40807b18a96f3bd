package files

import (
	"bytes"
	"context"
	"io"

	"triptych.dev/gateway/internal/blob"
)

// Put keeps a content that is no file, but that a row will name, with the room that uploads leave, and returns its hash.
func (f *Files) Put(ctx context.Context, content []byte) (sha256 string, err error) {
	if err := f.checkRoom(int64(len(content))); err != nil {
		return "", err
	}
	id, _, err := f.Blobs.Put(ctx, bytes.NewReader(content), int64(len(content)))
	return id.String(), explain(err, "")
}

// Read returns a content that a row names. Its errors are not for users.
func (f *Files) Read(sha256 string) ([]byte, error) {
	id, err := blob.ParseID(sha256)
	if err != nil {
		return nil, err
	}
	content, err := f.Blobs.Open(id)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	return io.ReadAll(content)
}
