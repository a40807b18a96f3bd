package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"triptych.dev/gateway/internal/blob"
	"triptych.dev/gateway/internal/config"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/telemetry"
)

// storeSettings say where the store is.
var storeSettings = []string{"data", "database-url", "database-url-file"}

// blobsPath is where the contents of files are; empty where there are no files. The data folder's own is the gateway's
// alone, as that folder is.
func blobsPath(settings *config.Settings) (path string, alone bool) {
	switch {
	case settings.Blobs == config.BlobsOff:
		return "", false
	case settings.Blobs != "":
		return settings.Blobs, false
	case settings.DatabaseURL != "" || settings.DatabaseURLFile != "":
		return "", false
	default:
		return filepath.Join(settings.Data, "blobs"), true
	}
}

// openBlobs opens the folder of files' contents for the gateway; nil where there are no files. What an earlier process left
// half-written goes, where no other process can be writing.
func openBlobs(settings *config.Settings) (*blob.Folder, error) {
	path, alone := blobsPath(settings)
	if path == "" {
		return nil, nil
	}
	folder, err := blob.OpenFolder(path)
	if err == nil {
		err = folder.CheckWritable()
	}
	if err == nil && alone {
		err = folder.DropTemporaries()
	}
	if errors.Is(err, blob.ErrUnwritable) {
		return nil, fmt.Errorf("blobs: %w: mount it for writing, give it to user %d, or name another folder (--blobs)", err, os.Geteuid())
	}
	if err != nil {
		return nil, fmt.Errorf("blobs: %w", err)
	}
	return folder, nil
}

// storeOptions reads the file of the URL, if there is one.
func storeOptions(settings *config.Settings) (store.Options, error) {
	databaseURL, err := config.FromFile("database-url", settings.DatabaseURL, settings.DatabaseURLFile)
	if err != nil {
		return store.Options{}, usageError{err}
	}
	return store.Options{Data: settings.Data, DatabaseURL: databaseURL}, nil
}

func openStore(ctx context.Context, settings *config.Settings, role store.Role) (*store.Store, error) {
	options, err := storeOptions(settings)
	if err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, options, role)
	return s, storeError(err)
}

// withStore runs what needs the store.
func withStore(ctx context.Context, settings *config.Settings, role store.Role, run func(s *store.Store) error) error {
	s, err := openStore(ctx, settings, role)
	if err != nil {
		return err
	}
	return errors.Join(run(s), s.Close())
}

// storeError makes a mistake of whoever started us of what is wrong with the store's settings or place.
func storeError(err error) error {
	if _, ours := errors.AsType[store.ConfigError](err); ours {
		return usageError{err}
	}
	return err
}

// commandLine is who acts here, for audit logs.
func commandLine() string { return fmt.Sprintf("command line, user %d", os.Getuid()) }

// auditLog is where administrative acts of the command line are told of: a line each, without any secret.
func (t terminal) auditLog() *slog.Logger {
	return telemetry.NewLogger(t.stderr, slog.LevelInfo).With("by", commandLine())
}
