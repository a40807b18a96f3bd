package files

import (
	"fmt"
	"io"
)

// roomCheckBytes are written before the room on the disk is looked at again: others write too, and the length of an
// upload may be unknown.
const roomCheckBytes = 4 << 20

// checkRoom refuses so many bytes more, where they would not leave MinFree, or nothing can be written at all.
func (f *Files) checkRoom(more int64) error {
	if err := f.Blobs.CheckAgain(); err != nil {
		return explain(err, "")
	}
	free, err := f.free()
	if err != nil {
		return explain(err, "")
	}
	if free-more < f.MinFree {
		return diskFull(fmt.Errorf("%d bytes are free, %d more were to be written, and %d are left free", free, more, f.MinFree))
	}
	return nil
}

// CheckRoom refuses to begin what is kept, where the disk has no room for it.
func (f *Files) CheckRoom() error { return f.checkRoom(0) }

// roomChecker reads a content as long as there is room for it.
type roomChecker struct {
	files     *Files
	content   io.Reader
	unchecked int64
}

func (r *roomChecker) Read(p []byte) (int, error) {
	n, err := r.content.Read(p)
	if r.unchecked += int64(n); r.unchecked > roomCheckBytes {
		if full := r.files.checkRoom(0); full != nil {
			return 0, full
		}
		r.unchecked = 0
	}
	return n, err
}
