package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"triptych.dev/gateway/internal/config"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/store"
)

// copySettings say what is copied. The database that the environment may name is not meant: --to is where to.
var copySettings = []string{"data", "blobs"}

// copyData copies the embedded database to PostgreSQL.
func copyData(ctx context.Context, t terminal, arguments []string) error {
	flags := newFlags("data copy")
	to := flags.String("to", "", "the `URL` of an empty PostgreSQL database, as postgres://USER:PASSWORD@HOST:5432/DATABASE")
	toFile := flags.String("to-file", "", "a `file` with that URL, which keeps its password out of the list of processes")
	settings, err := t.parse(flags, arguments, copySettings...)
	if err != nil {
		return err
	}
	if (*to == "") == (*toFile == "") {
		return usageError{errors.New("usage: gateway data copy --to URL | --to-file FILE [FLAGS]")}
	}
	target, err := config.FromFile("to", *to, *toFile)
	if err != nil {
		return usageError{err}
	}
	var contents files.Contents
	copied, err := store.Copy(ctx, store.Options{Data: settings.Data}, store.CopyOptions{
		To: target,
		Check: func(source *store.Store) (err error) {
			contents, err = presentContents(ctx, source, settings)
			return err
		},
		Progress: tellProgress(t.stderr, time.Now),
	})
	if err != nil {
		return storeError(err)
	}
	t.auditLog().Info("audit", "act", "data copied", "from", settings.Data, "to", copied.Place, "rows", copied.Rows())
	return tellCopied(t.stdout, settings, copied, contents)
}

// presentContents refuses rows whose contents are not there.
func presentContents(ctx context.Context, source *store.Store, settings *config.Settings) (files.Contents, error) {
	blobs, err := existingBlobs(settings)
	if err != nil {
		return files.Contents{}, err
	}
	if blobs == nil {
		named, err := source.BlobsPage(ctx, "", 1)
		if err == nil && len(named) > 0 {
			err = usageError{errors.New("there are files, and no folder of their contents here: --blobs names it")}
		}
		return files.Contents{}, err
	}
	contents, err := files.CheckContents(ctx, source, blobs, false)
	if err == nil && contents.Lost > 0 {
		err = fmt.Errorf("nothing was copied: %w", contents.Err())
	}
	return contents, err
}

// tellProgress writes how far a long copy is, each second.
func tellProgress(to io.Writer, now func() time.Time) func(table string, done, total int64) {
	told := now()
	return func(table string, done, total int64) {
		if at := now(); at.Sub(told) >= time.Second {
			told = at
			fmt.Fprintf(to, "copied %d of %d rows, now of table %s\n", done, total, table)
		}
	}
}

func tellCopied(to io.Writer, settings *config.Settings, copied store.Copied, contents files.Contents) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "TABLE\tROWS\tHASH")
	for _, one := range copied.Tables {
		fmt.Fprintf(table, "%s\t%d\t%.16s\n", one.Name, one.Rows, one.Hash)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	what := "Copied"
	if copied.Before {
		what = "Copied before"
	}
	text := fmt.Sprintf("%s to %s, and the same there: %d rows.\nGateways use it by --database-url", what, copied.Place, copied.Rows())
	if path, _ := blobsPath(settings); contents.Count > 0 {
		text += fmt.Sprintf(", and with --blobs %s: the contents of files, %d of them, stay there, and each gateway needs that folder", path, contents.Count)
	}
	_, err := fmt.Fprintf(to, "%s.\nThe data folder %s is not used again; `gateway data check` still reads it.\n", text, settings.Data)
	return err
}
