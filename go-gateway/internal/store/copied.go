package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"triptych.dev/gateway/internal/disk"
)

// copiedFile says that a data folder's database lives on in PostgreSQL. Its text is where, and since when.
const copiedFile = "copied"

// checkCopied refuses a database that was copied elsewhere: with two in use, each would be without what happened in the other.
func checkCopied(folder string) error {
	path := filepath.Join(folder, copiedFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return configError("the data folder cannot be used: %w", err)
	}
	return configError("the database in %s was copied to %s, which is the one to use: --database-url names it. "+
		"To use this one again, without what has happened there since, delete the file %s", folder, strings.TrimSpace(string(text)), path)
}

// markCopied keeps a database from being used again. It is there as a whole, or not at all.
func markCopied(folder, where string) error {
	path := filepath.Join(folder, copiedFile)
	partial := path + ".partial"
	if err := os.Remove(partial); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := openPlain(partial, os.O_CREATE|os.O_EXCL|os.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(file, where)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(partial, path); err != nil {
		return err
	}
	return disk.SyncFolder(folder)
}
