package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// batchOf has so many segments of ten lines, of a hundred bytes each.
func batchOf(id, tenant string, segments int) (Batch, []Segment) {
	var list []Segment
	for i := range int64(segments) {
		list = append(list, Segment{N: 10 * i, Lines: 10, At: 100 * i, Length: 100, Duplicates: []int64{10*i + 3}})
	}
	return Batch{
		ID: id, Tenant: tenant, Key: "key", Scopes: "class:batch", File: inputOf(tenant), SHA256: hashOf("input"), Bytes: int64(100 * segments),
		Endpoint: "/v1/embeddings", Model: "m", Lines: int64(10 * segments), Enqueued: int64(100 * segments), Created: created, Expires: created.Add(time.Hour),
	}, list
}

func hashOf(text string) string { return strings.Repeat(fmt.Sprintf("%02x", len(text)), 32) }

// addInput adds the file that batches of batchOf have, where it is not there.
func addInput(t *testing.T, s *Store, tenant string) {
	t.Helper()
	input := File{ID: inputOf(tenant), Purpose: "batch", Name: "in.jsonl", Bytes: 1, SHA256: hashOf("input"), Created: created}
	if err := s.AddFile(t.Context(), tenant, input, FileUsage{}, nil); err != nil && !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
}

func inputOf(tenant string) string { return "file-" + tenant }

func addBatch(t *testing.T, s *Store, id, tenant string, segments int) {
	t.Helper()
	addInput(t, s, tenant)
	batch, list := batchOf(id, tenant, segments)
	if err := s.AddBatch(t.Context(), tenant, batch, list, BatchLimits{}, nil); err != nil {
		t.Fatal(err)
	}
}

func claimBatch(t *testing.T, s *Store, most int) []Job {
	t.Helper()
	jobs, err := s.ClaimJobs(t.Context(), BatchQueue, "a test", most, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return jobs
}

// finish ends a segment's job, with one refused line and 7 tokens.
func finish(t *testing.T, s *Store, job Job, rest ...Segment) error {
	t.Helper()
	batch, n, err := ParseSegmentJob(job.Args)
	if err != nil {
		t.Fatal(err)
	}
	segment, err := s.FindSegment(t.Context(), job.Tenant, batch, n)
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range rest {
		segment.Lines, segment.Length = segment.Lines-other.Lines, segment.Length-other.Length
	}
	segment.Result = SegmentResult{
		Output: hashOf("o"), OutputBytes: 900, Errors: hashOf("er"), ErrorsBytes: 50, Failed: 1, Tokens: BatchTokens{5, 1, 2},
	}
	return s.FinishSegment(t.Context(), job, job.Tenant, batch, segment, true, rest, created)
}

func found(t *testing.T, s *Store, tenant, id string) Batch {
	t.Helper()
	batch, err := s.FindBatch(t.Context(), tenant, id)
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

func TestABatchComesToItsEnd(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		addBatch(t, s, "batch_1", "acme", 3)
		if err := s.DeleteFile(t.Context(), "acme", inputOf("acme")); err != nil { // which the batch does not mind
			t.Fatal(err)
		}
		jobs := claimBatch(t, s, 10)
		if len(jobs) != 3 || jobs[0].Kind != SegmentJob {
			t.Fatalf("%+v", jobs)
		}
		segment, err := s.FindSegment(t.Context(), "acme", "batch_1", 10)
		if err != nil || segment.At != 100 || !slices.Equal(segment.Duplicates, []int64{13}) || segment.State != SegmentPending {
			t.Errorf("%+v, %v", segment, err)
		}
		// The second one is divided: six of its lines wait again.
		rest := Segment{N: 14, Lines: 6, At: 140, Length: 60}
		if err := finish(t, s, jobs[0]); err != nil {
			t.Fatal(err)
		}
		if err := finish(t, s, jobs[0]); !errors.Is(err, ErrLost) {
			t.Fatalf("it was finished twice: %v", err)
		}
		if err := finish(t, s, jobs[1], rest); err != nil {
			t.Fatal(err)
		}
		if err := finish(t, s, jobs[2]); err != nil {
			t.Fatal(err)
		}
		batch := found(t, s, "acme", "batch_1")
		if batch.Pending != 1 || batch.Done != 9+3+9 || batch.Failed != 3 || batch.Enqueued != 60 || batch.State != BatchInProgress || batch.Tokens != (BatchTokens{15, 3, 6}) {
			t.Errorf("%+v", batch)
		}
		for _, job := range claimBatch(t, s, 10) {
			if err := finish(t, s, job); err != nil {
				t.Fatal(err)
			}
		}
		if batch := found(t, s, "acme", "batch_1"); batch.Pending != 0 || batch.Done+batch.Failed != 30 || batch.State != BatchFinalizing || batch.Enqueued != 0 {
			t.Errorf("%+v", batch)
		}
		for text, want := range map[string]bool{"input": true, "o": true, "er": true, "": false, "another": false} {
			if named, err := s.BlobReferenced(t.Context(), hashOf(text)); text != "" && (named != want || err != nil) {
				t.Errorf("%q is named: %v, %v", text, named, err)
			}
		}
		if named, err := s.BlobReferenced(t.Context(), ""); named || err != nil {
			t.Errorf("no blob is named: %v", err)
		}
		if page, err := s.BlobsPage(t.Context(), "", 10); err != nil || len(page) != 3 {
			t.Errorf("%+v, %v", page, err)
		}
		last := claimBatch(t, s, 10)
		if len(last) != 1 || last[0].Kind != FinalizeJob || last[0].Args != "batch_1" {
			t.Fatalf("%+v", last)
		}
		batch = found(t, s, "acme", "batch_1")
		batch.State = BatchCompleted
		output := &File{ID: "file-2", Purpose: "batch_output", Bytes: 3, SHA256: hashOf("joined"), Created: created}
		if err := s.FinishBatch(t.Context(), last[0], batch, output, nil, created, created.Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if batch := found(t, s, "acme", "batch_1"); batch.State != BatchCompleted || batch.Output != "file-2" || batch.Errors != "" || batch.Ended.IsZero() {
			t.Errorf("%+v", batch)
		}
		if _, err := s.FindFile(t.Context(), "acme", "file-2", created); err != nil {
			t.Error(err)
		}
		if named, err := s.BlobReferenced(t.Context(), hashOf("input")); named || err != nil {
			t.Errorf("the input of a batch that has ended is kept: %v", err)
		}
		if pruned, err := s.PruneBatches(t.Context(), created.Add(time.Second), 10); pruned != 1 || err != nil {
			t.Errorf("%d pruned, %v", pruned, err)
		}
	})
}

// What runs when a batch is cancelled, or expires, comes to its end; the rest is not begun, and all is put together.
func TestABatchIsStopped(t *testing.T) {
	stops := map[string]func(t *testing.T, s *Store){
		BatchCancelling: func(t *testing.T, s *Store) {
			for range 2 { // the second one changes nothing
				if batch, err := s.CancelBatch(t.Context(), "acme", "batch_1", created); err != nil || batch.State != BatchCancelling {
					t.Fatalf("%+v, %v", batch, err)
				}
			}
		},
		BatchFinalizing: func(t *testing.T, s *Store) {
			if expired, err := s.ExpireBatches(t.Context(), created.Add(time.Hour-1), 10); expired != 0 || err != nil {
				t.Fatalf("%d expired before their time, %v", expired, err)
			}
			if expired, err := s.ExpireBatches(t.Context(), created.Add(time.Hour), 10); expired != 1 || err != nil {
				t.Fatalf("%d expired, %v", expired, err)
			}
			if _, err := s.CancelBatch(t.Context(), "acme", "batch_1", created); !errors.Is(err, ErrEnded) {
				t.Errorf("it was cancelled after that: %v", err)
			}
		},
	}
	for state, stop := range stops {
		for _, running := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s with %d that run", state, running), func(t *testing.T) {
				everywhere(t, func(t *testing.T, options Options) {
					s := open(t, options, Command)
					addBatch(t, s, "batch_1", "acme", 4)
					jobs := claimBatch(t, s, 1+running)
					if err := finish(t, s, jobs[0]); err != nil {
						t.Fatal(err)
					}
					stop(t, s)
					if batch := found(t, s, "acme", "batch_1"); batch.Pending != int64(running) || batch.State != state {
						t.Fatalf("%+v", batch)
					}
					if running == 1 {
						if more := claimBatch(t, s, 10); len(more) != 0 {
							t.Errorf("begun after that: %+v", more)
						}
						if err := finish(t, s, jobs[1], Segment{N: 17, Lines: 3, At: 170, Length: 30}); err != nil {
							t.Fatal(err)
						}
					}
					last := claimBatch(t, s, 10)
					if len(last) != 1 || last[0].Kind != FinalizeJob {
						t.Fatalf("%+v", last)
					}
					segments, err := s.SegmentsPage(t.Context(), "acme", "batch_1", 0, 10)
					states := map[string]int{}
					for _, segment := range segments {
						states[segment.State]++
					}
					if err != nil || states[SegmentDone] != 1+running || states[SegmentSkipped] != 3 {
						t.Errorf("%v, %v", states, err)
					}
				})
			})
		}
	}
}

func TestASegmentThatKillsIsHalved(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		addBatch(t, s, "batch_1", "acme", 1)
		job := claimBatch(t, s, 1)[0]
		whole, err := s.FindSegment(t.Context(), "acme", "batch_1", 0)
		if err != nil {
			t.Fatal(err)
		}
		first, second := whole, whole
		first.Lines, first.Length, second.N, second.Lines, second.At, second.Length = 5, 50, 5, 5, 50, 50
		if err := s.FinishSegment(t.Context(), job, "acme", "batch_1", whole, false, []Segment{first, second}, created); err != nil {
			t.Fatal(err)
		}
		if batch := found(t, s, "acme", "batch_1"); batch.Pending != 2 || batch.Done != 0 || batch.Enqueued != 100 {
			t.Errorf("%+v", batch)
		}
		halves := claimBatch(t, s, 10)
		if len(halves) != 2 || halves[0].Deaths != 0 || halves[0].ID == job.ID {
			t.Errorf("%+v", halves)
		}
	})
}

func TestBatchesKeepToTheirTenantsLimits(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		addInput(t, s, "acme")
		var group sync.WaitGroup
		refused := make(chan error, 8)
		for i := range 8 { // at once
			group.Go(func() {
				batch, list := batchOf(fmt.Sprintf("batch_%d", i), "acme", 1)
				if err := s.AddBatch(t.Context(), "acme", batch, list, BatchLimits{Enqueued: 350}, nil); err != nil {
					refused <- err
				}
			})
		}
		group.Wait()
		if len(refused) != 5 {
			t.Errorf("%d of 8 were refused", len(refused))
		}
		if full, is := errors.AsType[ErrBatchLimit](<-refused); !is || full.Most.Enqueued != 350 || full.Used.Enqueued != 300 {
			t.Errorf("%+v", full)
		}
		batch, list := batchOf("batch_9", "acme", 1)
		if full, is := errors.AsType[ErrBatchLimit](s.AddBatch(t.Context(), "acme", batch, list, BatchLimits{Batches: 3}, nil)); !is || full.Used.Batches != 3 {
			t.Errorf("%+v", full)
		}
		addBatch(t, s, "batch_a", "globex", 1)
	})
}

// Between a look at the file and the batch, it may be deleted, and then its content swept.
func TestABatchOfAFileThatIsGoneIsNotAdded(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		addInput(t, s, "acme")
		batch, list := batchOf("batch_1", "acme", 1)
		if err := s.DeleteFile(t.Context(), "acme", batch.File); err != nil {
			t.Fatal(err)
		}
		if err := s.AddBatch(t.Context(), "acme", batch, list, BatchLimits{}, nil); !errors.Is(err, ErrNotFound) {
			t.Errorf("added: %v", err)
		}
		if page, err := s.BatchesPage(t.Context(), "acme", "", 10); err != nil || len(page) != 0 {
			t.Errorf("%+v, %v", page, err)
		}
		if jobs := claimBatch(t, s, 1); len(jobs) != 0 {
			t.Errorf("%+v", jobs)
		}
	})
}

// Nobody sees another's batch, or changes it.
func TestBatchesAreTheirTenants(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		addBatch(t, s, "batch_1", "acme", 1)
		_, findErr := s.FindBatch(t.Context(), "globex", "batch_1")
		_, segmentErr := s.FindSegment(t.Context(), "globex", "batch_1", 0)
		_, cancelErr := s.CancelBatch(t.Context(), "globex", "batch_1", created)
		for what, err := range map[string]error{"find": findErr, "segment": segmentErr, "cancel": cancelErr} {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("%s: %v", what, err)
			}
		}
		list, err := s.BatchesPage(t.Context(), "globex", "", 10)
		segments, segmentsErr := s.SegmentsPage(t.Context(), "globex", "batch_1", 0, 10)
		if len(list)+len(segments) != 0 || err != nil || segmentsErr != nil {
			t.Errorf("%+v, %+v, %v, %v", list, segments, err, segmentsErr)
		}
		job := claimBatch(t, s, 1)[0]
		if err := s.FinishSegment(t.Context(), job, "globex", "batch_1", Segment{Lines: 10}, true, nil, created); !errors.Is(err, ErrLost) {
			t.Error(err)
		}
		if batch := found(t, s, "acme", "batch_1"); batch.State != BatchInProgress || batch.Pending != 1 {
			t.Errorf("%+v", batch)
		}
		addBatch(t, s, "batch_2", "acme", 1)
		if page, err := s.BatchesPage(t.Context(), "acme", "batch_2", 10); err != nil || len(page) != 1 || page[0].ID != "batch_1" {
			t.Errorf("%+v, %v", page, err)
		}
	})
}
