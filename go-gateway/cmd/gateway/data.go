package main

import (
	"context"
	"errors"
	"fmt"

	"triptych.dev/gateway/internal/store"
)

func migrateData(ctx context.Context, t terminal, arguments []string) error {
	settings, err := t.parse(newFlags("data migrate"), arguments, storeSettings...)
	if err != nil {
		return err
	}
	options, err := storeOptions(settings)
	if err != nil {
		return err
	}
	from, to, err := store.Migrate(ctx, options)
	if err != nil {
		return storeError(err)
	}
	if from != to {
		t.auditLog().Info("audit", "act", "data migrated", "from", from, "to", to)
	}
	_, err = fmt.Fprintf(t.stdout, "The schema is version %d; it was %d.\n", to, from)
	return err
}

func checkData(ctx context.Context, t terminal, arguments []string) error {
	flags := newFlags("data check")
	whole := flags.Bool("hashes", false, "read the contents of all files, too")
	settings, err := t.parse(flags, arguments, dataSettings...)
	if err != nil {
		return err
	}
	return withStore(ctx, settings, store.Inspector, func(s *store.Store) error {
		found, err := s.Check(ctx)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(t.stdout, "good: %s (%s), schema version %d, %d keys\n", found.Place, found.Database, found.Schema, found.Keys)
		return errors.Join(err, checkContents(ctx, t, s, settings, *whole))
	})
}

func backupData(ctx context.Context, t terminal, arguments []string) error {
	flags := newFlags("data backup")
	to := flags.String("to", "", "a `file`, which must not exist yet; the contents of files go to the folder file.blobs")
	settings, err := t.parse(flags, arguments, dataSettings...)
	if err != nil {
		return err
	}
	if *to == "" {
		return usageError{errors.New("usage: gateway data backup --to FILE [FLAGS]")}
	}
	return withStore(ctx, settings, store.Inspector, func(s *store.Store) error {
		blobs, err := existingBlobs(settings)
		if err != nil {
			return err
		}
		contents, err := backUp(ctx, s, blobs, *to)
		if err != nil {
			return storeError(err)
		}
		t.auditLog().Info("audit", "act", "data backed up", "to", *to, "contents", contents.Count-contents.Lost)
		if err := contents.Err(); err != nil {
			return fmt.Errorf("the backup is made, and lacks what was lost before: %w", err)
		}
		return nil
	})
}

func restoreData(ctx context.Context, t terminal, arguments []string) error {
	flags := newFlags("data restore")
	from := flags.String("from", "", "a `file` that `gateway data backup` made")
	settings, err := t.parse(flags, arguments, dataSettings...)
	if err != nil {
		return err
	}
	if *from == "" {
		return usageError{errors.New("usage: gateway data restore --from FILE [FLAGS]")}
	}
	options, err := storeOptions(settings)
	if err != nil {
		return err
	}
	if err := restoreContents(ctx, settings, options, *from); err != nil {
		return err
	}
	schema, err := store.Restore(ctx, options, *from)
	if err != nil {
		return storeError(err)
	}
	t.auditLog().Info("audit", "act", "data restored", "from", *from, "schema", schema)
	return nil
}
