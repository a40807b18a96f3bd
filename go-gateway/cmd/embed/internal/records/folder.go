package records

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// folder has a text in each file, whose id is its path from there. It is read with all that is below it, in the order of
// names. What begins with a dot is not read, and a link to a folder is not followed.
type folder struct {
	path    string
	size    int64
	options Options
}

func openFolder(name string, options Options) (*folder, error) {
	f := &folder{path: name, options: options}
	err := f.walk(context.Background(), func(_ *os.Root, _ string, entry fs.DirEntry) (bool, error) {
		if info, err := entry.Info(); err == nil {
			f.size += cost(info.Size())
		}
		return true, nil
	})
	return f, err
}

// cost has small files count too.
func cost(bytes int64) int64 { return bytes + 512 }

func (f *folder) Size() int64  { return f.size }
func (f *folder) OwnIDs() bool { return false }

// walk visits files.
func (f *folder) walk(ctx context.Context, visit func(root *os.Root, name string, entry fs.DirEntry) (bool, error)) error {
	root, err := os.OpenRoot(f.path)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return cmpOr(err, fs.SkipAll)
		}
		if name != "." && strings.HasPrefix(path.Base(name), ".") {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if entry.IsDir() {
			return nil
		}
		if on, err := visit(root, name, entry); err != nil || !on {
			return cmpOr(err, fs.SkipAll)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	return nil
}

func cmpOr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

func (f *folder) Each(ctx context.Context, yield func(Record) bool) error {
	var number, read int64
	return f.walk(ctx, func(root *os.Root, name string, _ fs.DirEntry) (bool, error) {
		number++
		record := Record{ID: name, Input: f.path, Line: number}
		var size int64
		record.Text, size, record.Failure = f.content(root, name)
		read += cost(size)
		record.Read = read
		if record.Failure != nil && record.Failure.Code == isFolder {
			return true, nil
		}
		record.check(&f.options)
		return yield(record), nil
	})
}

// isFolder is the code of a link to a folder, which is no record.
const isFolder = "folder"

// content is read below the root alone: a link that leads out of it is refused.
func (f *folder) content(root *os.Root, name string) (text string, size int64, failed *Failure) {
	info, err := root.Stat(name) // before it is opened: a pipe would block
	switch {
	case err != nil:
		return "", 0, failure("unreadable", "%v", err)
	case info.IsDir():
		return "", 0, failure(isFolder, "")
	case !info.Mode().IsRegular():
		return "", 0, failure("unreadable", "it is no regular file")
	case info.Size() > int64(f.options.MaxText):
		return "", info.Size(), failure("text_too_long",
			"the file has %d bytes, and %d are allowed (--max-text-bytes)", info.Size(), f.options.MaxText)
	}
	opened, err := root.Open(name)
	if err != nil {
		return "", 0, failure("unreadable", "%v", err)
	}
	defer func() { _ = opened.Close() }()
	content, err := io.ReadAll(io.LimitReader(opened, int64(f.options.MaxText)+1))
	if err != nil {
		return "", info.Size(), failure("unreadable", "%v", err)
	}
	return string(content), info.Size(), nil
}
