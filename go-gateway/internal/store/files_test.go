package store

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// fileOf has the id of a number, 10 bytes, and a blob of its own.
func fileOf(n int) File {
	return File{
		ID: fmt.Sprintf("file-%04d", n), Purpose: "user_data", Name: "näme.txt", Bytes: 10,
		SHA256: fmt.Sprintf("%064x", n), Created: noon,
	}
}

func addOne(t *testing.T, s *Store, tenant string, file File) {
	t.Helper()
	if err := s.AddFile(t.Context(), tenant, file, FileUsage{}, nil); err != nil {
		t.Fatal(err)
	}
}

// checkUsage compares what is counted with the rows.
func checkUsage(t *testing.T, s *Store, tenant string, want FileUsage) {
	t.Helper()
	used, err := s.FileUsage(t.Context(), tenant)
	rows := FileUsage{
		int64(count(t, s.r, `SELECT count(*) FROM file WHERE tenant = $1`, tenant)),
		int64(count(t, s.r, `SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM file WHERE tenant = $1`, tenant)),
	}
	if err != nil || used != want || rows != want {
		t.Errorf("%s has %+v, rows of %+v, want %+v; %v", tenant, used, rows, want, err)
	}
}

func TestAFileIsReadAsItWasAdded(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		file := fileOf(1)
		file.Expires = noon.Add(time.Hour)
		addOne(t, s, "acme", file)
		if err := s.AddFile(t.Context(), "acme", file, FileUsage{}, nil); !errors.Is(err, ErrExists) {
			t.Errorf("twice: %v", err)
		}
		file.Tenant = "acme"
		if found, err := s.FindFile(t.Context(), "acme", file.ID, noon); err != nil || found != file {
			t.Errorf("got %+v, %v", found, err)
		}
		checkUsage(t, s, "acme", FileUsage{1, 10})
		if err := s.DeleteFile(t.Context(), "acme", file.ID); err != nil {
			t.Error(err)
		}
		if err := s.DeleteFile(t.Context(), "acme", file.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("deleted twice: %v", err)
		}
		checkUsage(t, s, "acme", FileUsage{})
	})
}

// TestATenantHasNothingOfAnothersFiles asks each method that takes a tenant for another one's.
func TestATenantHasNothingOfAnothersFiles(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		file := fileOf(1)
		addOne(t, s, "acme", file)
		if _, err := s.FindFile(t.Context(), "globex", file.ID, noon); !errors.Is(err, ErrNotFound) {
			t.Errorf("found: %v", err)
		}
		if err := s.DeleteFile(t.Context(), "globex", file.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("deleted: %v", err)
		}
		if found, err := s.FilesPage(t.Context(), "globex", FilesPage{Most: 10}, noon); err != nil || len(found) != 0 {
			t.Errorf("listed: %v, %v", found, err)
		}
		if err := s.AddFile(t.Context(), "globex", file, FileUsage{}, nil); !errors.Is(err, ErrExists) {
			t.Errorf("replaced: %v", err)
		}
		addOne(t, s, "globex", fileOf(2))
		checkUsage(t, s, "acme", FileUsage{1, 10})
		checkUsage(t, s, "globex", FileUsage{1, 10})
	})
}

func TestFilesAreListedByPage(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		for n := range 6 {
			file := fileOf(n)
			if n%2 == 1 {
				file.Purpose = "batch"
			}
			if n == 2 {
				file.Expires = noon.Add(-time.Millisecond)
			}
			addOne(t, s, "acme", file)
		}
		for _, test := range []struct {
			page FilesPage
			want string
		}{
			{FilesPage{Most: 2}, "5 4"},
			{FilesPage{Most: 2, After: "file-0004"}, "3 1"}, // 2 has expired
			{FilesPage{Most: 9, After: "file-0001"}, "0"},
			{FilesPage{Most: 2, Ascending: true}, "0 1"},
			{FilesPage{Most: 9, Ascending: true, After: "file-0001"}, "3 4 5"},
			{FilesPage{Most: 9, Purpose: "batch"}, "5 3 1"},
			{FilesPage{Most: 9, Purpose: "batch", After: "file-0003z"}, "3 1"}, // gone meanwhile
		} {
			found, err := s.FilesPage(t.Context(), "acme", test.page, noon)
			var ids []string
			for _, file := range found {
				ids = append(ids, strings.TrimPrefix(file.ID, "file-000"))
			}
			if got := strings.Join(ids, " "); err != nil || got != test.want {
				t.Errorf("%+v: %s, %v", test.page, got, err)
			}
		}
	})
}

// TestNoTwoFilesTogetherExceedAShare adds many at once, of which a few have room.
func TestNoTwoFilesTogetherExceedAShare(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		for name, most := range map[string]FileUsage{"files": {3, 0}, "bytes": {0, 39}} {
			var group sync.WaitGroup
			var added, refused atomic.Int64
			for n := range 12 {
				group.Go(func() {
					file := fileOf(n)
					file.ID += name
					err := s.AddFile(t.Context(), name, file, most, nil)
					if full, is := errors.AsType[ErrShare](err); is && full.Most == most && full.Used == (FileUsage{3, 30}) {
						refused.Add(1)
					} else if err != nil {
						t.Error(err)
					} else {
						added.Add(1)
					}
				})
			}
			group.Wait()
			if added.Load() != 3 || refused.Load() != 9 {
				t.Errorf("%s: %d added, %d refused", name, added.Load(), refused.Load())
			}
			checkUsage(t, s, name, FileUsage{3, 30})
		}
	})
}

func TestFilesExpire(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		for n := range 4 {
			file := fileOf(n)
			file.Expires = noon.Add(time.Duration(n) * time.Minute)
			addOne(t, s, []string{"acme", "globex"}[n%2], file)
		}
		addOne(t, s, "acme", fileOf(5)) // never
		if _, err := s.FindFile(t.Context(), "acme", "file-0000", noon); !errors.Is(err, ErrNotFound) {
			t.Errorf("expired and not swept yet: %v", err)
		}
		for _, want := range []int{2, 1, 0} { // two at a time
			if deleted, err := s.ExpireFiles(t.Context(), noon.Add(2*time.Minute), 2); err != nil || deleted != want {
				t.Errorf("%d deleted, want %d, %v", deleted, want, err)
			}
		}
		checkUsage(t, s, "acme", FileUsage{1, 10})
		checkUsage(t, s, "globex", FileUsage{1, 10})
	})
}

func TestBlobsThatRowsName(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		for n := range 3 {
			addOne(t, s, "acme", fileOf(n))
		}
		shared := fileOf(4)
		shared.SHA256 = fileOf(1).SHA256
		addOne(t, s, "globex", shared)
		if err := s.DeleteFile(t.Context(), "acme", fileOf(1).ID); err != nil {
			t.Fatal(err)
		}
		if err := s.DeleteFile(t.Context(), "acme", fileOf(2).ID); err != nil {
			t.Fatal(err)
		}
		for n, want := range []bool{true, true, false} {
			if got, err := s.BlobReferenced(t.Context(), fileOf(n).SHA256); err != nil || got != want {
				t.Errorf("blob %d: %v, %v", n, got, err)
			}
		}
		first, err := s.BlobsPage(t.Context(), "", 1)
		if err != nil || len(first) != 1 || first[0] != (BlobRow{fileOf(0).SHA256, 10}) {
			t.Fatalf("got %v, %v", first, err)
		}
		if rest, err := s.BlobsPage(t.Context(), first[0].SHA256, 9); err != nil || len(rest) != 1 || rest[0].SHA256 != fileOf(1).SHA256 {
			t.Errorf("got %v, %v", rest, err)
		}
	})
}

func TestCheckFindsAWrongCount(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		addOne(t, s, "acme", fileOf(1))
		addOne(t, s, "globex", fileOf(2))
		if err := s.DeleteFile(t.Context(), "globex", fileOf(2).ID); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Check(t.Context()); err != nil {
			t.Error(err)
		}
		execute(t, s, `UPDATE file_usage SET bytes = bytes + 1 WHERE tenant = 'acme'`)
		if _, err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "of 1 tenants") {
			t.Errorf("got %v", err)
		}
	})
}
