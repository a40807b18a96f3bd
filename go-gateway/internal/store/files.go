package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// File is what is stored of a tenant's file. Its content is the blob of this hash.
type File struct {
	ID, Tenant    string
	Purpose, Name string
	Bytes         int64
	SHA256        string // of the content, in hexadecimal
	Created       time.Time
	Expires       time.Time // zero: never. From then on it is not found, and swept
}

// FileUsage is what a tenant's files come to, those that expired and are not swept yet among them.
type FileUsage struct{ Files, Bytes int64 }

// ErrShare means that a tenant's files would come to more than its share. Its text is for logs.
type ErrShare struct{ Used, Most FileUsage }

func (e ErrShare) Error() string {
	return fmt.Sprintf("the tenant has %d files of %d bytes together, and may have %d of %d bytes", e.Used.Files, e.Used.Bytes, e.Most.Files, e.Most.Bytes)
}

const fileColumns = `id, tenant, purpose, name, bytes, sha256, created_at, expires_at`

// AddFile adds a file of which the blob is there. It returns ErrShare where the tenant would have more than most, of which
// 0 is no bound, ErrExists where the id is taken, and ErrAnswered where the answer's key was used before.
func (s *Store) AddFile(ctx context.Context, tenant string, file File, most FileUsage, answer *Answer) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		if err := s.keepAnswer(ctx, tx, tenant, answer); err != nil {
			return err
		}
		return addFile(ctx, tx, tenant, file, most)
	})
}

// addFile is AddFile within a transaction that does more.
func addFile(ctx context.Context, tx *sql.Tx, tenant string, file File, most FileUsage) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO file_usage (tenant, files, bytes) VALUES ($1, 0, 0) ON CONFLICT (tenant) DO NOTHING`, tenant)
	if err != nil {
		return err
	}
	done, err := tx.ExecContext(ctx, `UPDATE file_usage SET files = files + 1, bytes = bytes + $2
		WHERE tenant = $1 AND (files < $3 OR $3 = 0) AND (bytes + $2 <= $4 OR $4 = 0)`, tenant, file.Bytes, most.Files, most.Bytes)
	if err != nil {
		return err
	}
	if rows, err := done.RowsAffected(); err != nil || rows == 0 {
		used, readErr := fileUsage(ctx, tx, tenant)
		return cmp.Or(err, readErr, error(ErrShare{used, most}))
	}
	done, err = tx.ExecContext(ctx, `INSERT INTO file (`+fileColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING`,
		file.ID, tenant, file.Purpose, file.Name, file.Bytes, file.SHA256, file.Created.UnixMilli(), milliseconds(file.Expires))
	if err != nil {
		return err
	}
	if rows, err := done.RowsAffected(); err != nil || rows == 0 {
		return cmp.Or(err, ErrExists)
	}
	return nil
}

// FileUsage returns what a tenant's files come to.
func (s *Store) FileUsage(ctx context.Context, tenant string) (FileUsage, error) {
	used, err := fileUsage(ctx, s.r, tenant)
	return used, s.explain(err)
}

// TotalFileUsage returns what the files of all tenants come to.
func (s *Store) TotalFileUsage(ctx context.Context) (used FileUsage, err error) {
	err = s.r.QueryRowContext(ctx, `SELECT coalesce(sum(files), 0), coalesce(sum(bytes), 0) FROM file_usage`).Scan(&used.Files, &used.Bytes)
	return used, s.explain(err)
}

func fileUsage(ctx context.Context, q querier, tenant string) (used FileUsage, err error) {
	err = q.QueryRowContext(ctx, `SELECT files, bytes FROM file_usage WHERE tenant = $1`, tenant).Scan(&used.Files, &used.Bytes)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return used, err
}

// FindFile returns a tenant's file, or ErrNotFound, as for one that has expired.
func (s *Store) FindFile(ctx context.Context, tenant, id string, now time.Time) (File, error) {
	file, err := scanFile(s.r.QueryRowContext(ctx, `SELECT `+fileColumns+` FROM file
		WHERE tenant = $1 AND id = $2 AND (expires_at IS NULL OR expires_at > $3)`, tenant, id, now.UnixMilli()))
	return file, s.explain(noFile(id, err))
}

// FilesPage is a part of a tenant's list.
type FilesPage struct {
	Purpose   string // empty: all
	After     string // the last file of the page before, which need not be there any more; empty: from the beginning
	Ascending bool   // oldest first
	Most      int
}

// FilesPage returns a page of a tenant's files that have not expired, by their ids: those begin with the time.
func (s *Store) FilesPage(ctx context.Context, tenant string, page FilesPage, now time.Time) ([]File, error) {
	beyond, order := "<", "DESC"
	if page.Ascending {
		beyond, order = ">", "ASC"
	}
	return query(ctx, s, scanFile, `SELECT `+fileColumns+` FROM file
		WHERE tenant = $1 AND (id `+beyond+` $2 OR $2 = '') AND (purpose = $3 OR $3 = '')
		AND (expires_at IS NULL OR expires_at > $4) ORDER BY id `+order+` LIMIT $5`,
		tenant, page.After, page.Purpose, now.UnixMilli(), page.Most)
}

// DeleteFile deletes a tenant's file, or returns ErrNotFound. Its blob is for the sweep.
func (s *Store) DeleteFile(ctx context.Context, tenant, id string) error {
	return s.writeTwice(ctx, func(tx *sql.Tx) error {
		var bytes int64
		err := tx.QueryRowContext(ctx, `DELETE FROM file WHERE tenant = $1 AND id = $2 RETURNING bytes`, tenant, id).Scan(&bytes)
		if err != nil {
			return noFile(id, err)
		}
		return one(tx.ExecContext(ctx, `UPDATE file_usage SET files = files - 1, bytes = bytes - $2 WHERE tenant = $1`, tenant, bytes))
	})
}

// ExpireFiles deletes at most so many of all tenants' files that have expired, the oldest first, and returns how many. Each
// is a transaction of its own: others that write wait for one of them, not for all.
func (s *Store) ExpireFiles(ctx context.Context, now time.Time, most int) (deleted int, err error) {
	expired, err := query(ctx, s, scanFile, `SELECT `+fileColumns+` FROM file
		WHERE expires_at IS NOT NULL AND expires_at <= $1 ORDER BY expires_at, id LIMIT $2`, now.UnixMilli(), most)
	for _, file := range expired {
		switch err := s.DeleteFile(ctx, file.Tenant, file.ID); {
		case err == nil:
			deleted++
		case !errors.Is(err, ErrNotFound): // another gateway sweeps too
			return deleted, err
		}
	}
	return deleted, err
}

// BlobReferenced reports whether a row of any tenant names a blob. Every table that does must be asked here.
func (s *Store) BlobReferenced(ctx context.Context, sha256 string) (referenced bool, err error) {
	err = s.r.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM file WHERE sha256 = $1)
		OR EXISTS (SELECT 1 FROM batch WHERE sha256 = $1 AND ended_at IS NULL)
		OR EXISTS (SELECT 1 FROM moderation_review WHERE content = $1)
		OR EXISTS (SELECT 1 FROM async_job WHERE body = $1 AND body <> '') OR EXISTS (SELECT 1 FROM async_job WHERE result = $1 AND result <> '')
		OR EXISTS (SELECT 1 FROM segment WHERE output = $1 AND output <> '') OR EXISTS (SELECT 1 FROM segment WHERE errors = $1 AND errors <> '')`, sha256).Scan(&referenced)
	return referenced, s.explain(err)
}

// BlobRow is a blob that a row names, and how long it is.
type BlobRow struct {
	SHA256 string
	Bytes  int64
}

// BlobsPage returns at most so many of the blobs that rows name, of all tenants, in the order of their hashes: those after
// one. It is for backups and checks. Every table that names blobs must be asked here.
func (s *Store) BlobsPage(ctx context.Context, after string, most int) ([]BlobRow, error) {
	return query(ctx, s, func(row scanner) (blob BlobRow, err error) {
		err = row.Scan(&blob.SHA256, &blob.Bytes)
		return blob, err
	}, `SELECT sha256, max(bytes) FROM (SELECT sha256, bytes FROM file WHERE sha256 > $1
		UNION ALL SELECT sha256, bytes FROM batch WHERE sha256 > $1 AND ended_at IS NULL
		UNION ALL SELECT body, body_bytes FROM async_job WHERE body > $1 AND body <> ''
		UNION ALL SELECT result, result_bytes FROM async_job WHERE result > $1 AND result <> ''
		UNION ALL SELECT content, content_bytes FROM moderation_review WHERE content > $1
		UNION ALL SELECT output, output_bytes FROM segment WHERE output > $1 AND output <> ''
		UNION ALL SELECT errors, errors_bytes FROM segment WHERE errors > $1 AND errors <> '') AS named GROUP BY sha256 ORDER BY sha256 LIMIT $2`, after, most)
}

func noFile(id string, err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("there is no file %.100q: %w", id, ErrNotFound)
	}
	return err
}

func scanFile(row scanner) (file File, err error) {
	var created int64
	var expires sql.NullInt64
	err = row.Scan(&file.ID, &file.Tenant, &file.Purpose, &file.Name, &file.Bytes, &file.SHA256, &created, &expires)
	file.Created, file.Expires = time.UnixMilli(created).UTC(), timeOf(expires)
	return file, err
}
