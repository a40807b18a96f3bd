package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"triptych.dev/gateway/internal/blob"
	"triptych.dev/gateway/internal/config"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/store"
)

// dataSettings say where the store and the contents of files are.
var dataSettings = append([]string{"blobs"}, storeSettings...)

// existingBlobs opens the folder of files' contents; nil where there is none, which is not made.
func existingBlobs(settings *config.Settings) (*blob.Folder, error) {
	path, _ := blobsPath(settings)
	return existingFolder(path)
}

func existingFolder(path string) (*blob.Folder, error) {
	if path == "" {
		return nil, nil
	}
	switch _, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return blob.ExistingFolder(path), nil
}

// contentsOf is the folder of a backup's contents.
func contentsOf(backup string) string { return backup + ".blobs" }

// backUp writes the database to a file, and the contents that it names to the folder beside it, of which none is swept
// meanwhile.
func backUp(ctx context.Context, s *store.Store, blobs *blob.Folder, to string) (contents files.Contents, err error) {
	keep := func(copied *store.Store) error {
		if first, err := copied.BlobsPage(ctx, "", 1); err != nil || len(first) == 0 {
			return err
		}
		target, err := blob.OpenFolder(contentsOf(to))
		if err != nil {
			return err
		}
		contents, err = files.BackUpContents(ctx, copied, blobs, target)
		return err
	}
	if blobs == nil {
		return files.Contents{}, s.Backup(ctx, to)
	}
	return contents, blobs.Hold(func() error { return s.BackupWith(ctx, to, keep) })
}

// restoreContents copies the contents of a backup to where the gateway will look for them, before the database names them.
func restoreContents(ctx context.Context, settings *config.Settings, options store.Options, from string) error {
	kept, err := existingFolder(contentsOf(from))
	if err != nil || kept == nil {
		return err
	}
	path, _ := blobsPath(settings)
	if path == "" || options.Postgres() {
		return nil
	}
	blobs, err := blob.OpenFolder(path)
	if err != nil {
		return err
	}
	return files.RestoreContents(ctx, kept, blobs)
}

// checkContents looks for the contents of files, where there is a folder of them.
func checkContents(ctx context.Context, t terminal, s *store.Store, settings *config.Settings, whole bool) error {
	blobs, err := existingBlobs(settings)
	if err != nil {
		return err
	}
	if blobs == nil {
		named, err := s.BlobsPage(ctx, "", 1)
		if err == nil && len(named) > 0 {
			_, err = fmt.Fprintln(t.stdout, "not checked: the contents of files, since there is no folder of them here; --blobs names one")
		}
		return err
	}
	found, err := files.CheckContents(ctx, s, blobs, whole)
	if err != nil {
		return err
	}
	if err := found.Err(); err != nil {
		return err
	}
	if found.Count > 0 {
		_, err = fmt.Fprintf(t.stdout, "good: the contents of files, %d of them\n", found.Count)
	}
	return err
}
