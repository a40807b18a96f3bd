//go:build linux

package batch

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"triptych.dev/gateway/internal/blob"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/testkit"
)

// onSmallDisk runs a test, for each database, with a fixture on a file system of its own, and ways to fill that up and to make room
// again. There are contents, and SQLite.
func onSmallDisk(t *testing.T, test func(t *testing.T, f *fixture, fill func(leave int64), heal func())) {
	for name, place := range map[string]func(t *testing.T, disk string) store.Options{
		"SQLite": func(_ *testing.T, disk string) store.Options { return store.Options{Data: filepath.Join(disk, "data")} },
		"PostgreSQL": func(t *testing.T, _ string) store.Options {
			return store.Options{DatabaseURL: postgres.Get(t).NewDatabase(t)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // one of them waits, for the most part
			disk := testkit.SmallDisk(t, 64<<20)
			f := &fixture{T: t, folder: disk}
			f.open(place(t, disk), store.Gateway)
			fill, heal := fillerOf(f, disk)
			test(t, f, fill, heal)
		})
	}
}

func fillerOf(f *fixture, disk string) (fill func(leave int64), heal func()) {
	filler, t := filepath.Join(disk, "filler"), f.T
	fill = func(leave int64) {
		t.Helper()
		free, err := f.Files.Blobs.Free()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filler, make([]byte, free-leave), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return fill, func() {
		t.Helper()
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}
}

// TestResultsWaitForRoom on the disk: the segment is run again, nothing is counted against it, and the batch ends without a restart.
func TestResultsWaitForRoom(t *testing.T) {
	onSmallDisk(t, func(t *testing.T, f *fixture, fill func(leave int64), heal func()) {
		batch := f.mustSubmit(100)
		large := Reply{Status: 200, Body: []byte(`{"a":"` + strings.Repeat("x", 100<<10) + `"}`)} // 10 MB together
		var failed atomic.Bool
		f.Logger = slog.New(slog.NewTextHandler(writeFunc(func(p []byte) (int, error) {
			if bytes.Contains(p, []byte("no space left on device")) {
				failed.Store(true)
			}
			return len(p), nil
		}), nil))
		fill(1 << 20)
		f.watch(func(context.Context, Request) Reply { return large })
		eventually(t, "a failure for want of room", failed.Load)
		heal()
		eventually(t, "the batch's end", func() bool {
			found, err := f.Find(t.Context(), "acme", batch.ID)
			return err == nil && found.State == store.BatchCompleted && found.Done == 100
		})
		if left, err := os.ReadDir(filepath.Join(f.folder, "blobs", "tmp")); err != nil || len(left) != 0 {
			t.Errorf("left %v, %v", left, err)
		}
	})
}

type writeFunc func(p []byte) (int, error)

func (f writeFunc) Write(p []byte) (int, error) { return f(p) }

// TestNoSegmentIsBegunWithoutRoom, and none is created; both are as soon as there is some.
func TestNoSegmentIsBegunWithoutRoom(t *testing.T) {
	onSmallDisk(t, func(t *testing.T, f *fixture, fill func(leave int64), heal func()) {
		batch := f.mustSubmit(10)
		f.Files.MinFree = 8 << 20
		log := &testkit.Log{}
		f.Logger = slog.New(slog.NewTextHandler(log, nil))
		fill(f.Files.MinFree - 1<<20)
		var served atomic.Int64
		f.watch(func(context.Context, Request) Reply {
			served.Add(1)
			return Reply{Status: 200, Body: []byte(`{}`)}
		})
		eventually(t, "the hold", func() bool { return strings.Contains(log.String(), "no job is begun") })
		if _, err := f.Create(t.Context(), acme, Asked{File: batch.File, Endpoint: endpoint}, withoutKey); err == nil || fault.Of(err).Reason != fault.StorageFull {
			t.Errorf("created: %v", err)
		}
		if n := served.Load(); n != 0 {
			t.Errorf("%d lines were served", n)
		}
		heal()
		eventually(t, "the batch's end", func() bool {
			found, err := f.Find(t.Context(), "acme", batch.ID)
			return err == nil && found.State == store.BatchCompleted
		})
		if !strings.Contains(log.String(), "jobs are begun again") {
			t.Errorf("the log is\n%s", log)
		}
	})
}

// TestABatchDoesNotFailForWantOfRoom, however often its results could not be put together.
func TestABatchDoesNotFailForWantOfRoom(t *testing.T) {
	onSmallDisk(t, func(t *testing.T, f *fixture, fill func(leave int64), heal func()) {
		batch := f.mustSubmit(1)
		claim := func() store.Job {
			t.Helper()
			jobs, err := f.Store.ClaimJobs(t.Context(), store.BatchQueue, "me", 1, time.Minute)
			if err != nil || len(jobs) != 1 {
				t.Fatal(jobs, err)
			}
			return jobs[0]
		}
		segment, err := f.Store.FindSegment(t.Context(), "acme", batch.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		id, size, err := f.Files.Blobs.Put(t.Context(), bytes.NewReader(make([]byte, 2<<20)), 4<<20)
		if err != nil {
			t.Fatal(err)
		}
		segment.Result = store.SegmentResult{Output: id.String(), OutputBytes: size}
		if err := f.Store.FinishSegment(t.Context(), claim(), "acme", batch.ID, segment, true, nil, f.Now()); err != nil {
			t.Fatal(err)
		}
		job, w := claim(), &worker{f.Batches, nil}
		job.Errors = 100
		fill(1 << 20)
		if err := w.finalize(t.Context(), job); !errors.Is(err, blob.ErrFull) {
			t.Errorf("at a full disk: %v", err)
		}
		if found, err := f.Find(t.Context(), "acme", batch.ID); err != nil || found.State != store.BatchFinalizing {
			t.Errorf("%+v, %v", found, err)
		}
		heal()
		if err := w.finalize(t.Context(), job); err != nil {
			t.Errorf("with room: %v", err)
		}
		if found, err := f.Find(t.Context(), "acme", batch.ID); err != nil || found.State != store.BatchCompleted || found.Output == "" {
			t.Errorf("%+v, %v", found, err)
		}
	})
}
