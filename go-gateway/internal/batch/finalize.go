package batch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/blob"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/queue"
	"triptych.dev/gateway/internal/store"
)

const (
	// maxResultBytes is more than any output has; the disk is full before.
	maxResultBytes = 1 << 40
	segmentsPage   = 64
	// finalizeAttempts are how often the results are tried to be put together before the batch fails.
	finalizeAttempts = 8
)

// output is a line of an output file or of a file of errors.
type output struct {
	ID       string       `json:"id"`
	CustomID *string      `json:"custom_id"` // null where it could not be read
	Response *response    `json:"response"`  // null where the line was not served
	Error    *outputError `json:"error"`
}

type response struct {
	StatusCode int            `json:"status_code"`
	RequestID  string         `json:"request_id"`
	Body       jsontext.Value `json:"body"`
}

type outputError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// render returns the line of what came of one.
func render(served result) ([]byte, error) {
	line := output{ID: served.id}
	if served.customID != "" {
		line.CustomID = &served.customID
	}
	if served.wrong != "" {
		line.Error = &outputError{served.code, served.wrong}
	} else {
		line.Response = &response{served.reply.Status, served.requestID, served.reply.Body}
	}
	text, err := json.Marshal(line, jsontext.AllowInvalidUTF8(true))
	return append(text, '\n'), err
}

// finalize joins what came of the segments, in their order, into files, and ends the batch.
func (w *worker) finalize(ctx context.Context, job store.Job) error {
	batch, err := w.Store.FindBatch(ctx, job.Tenant, job.Args)
	if err != nil {
		return err
	}
	if !batch.Ended.IsZero() {
		return w.Store.FinishJob(ctx, job)
	}
	switch {
	case batch.State == store.BatchCancelling:
		batch.State = store.BatchCancelled
	case !batch.Expired.IsZero():
		batch.State = store.BatchExpired
	default:
		batch.State = store.BatchCompleted
	}
	plan, _ := w.PlanOf(batch.Tenant, batch.Plan)                   // one that is gone keeps nothing short
	lifetime := shorter(batch.OutputLifetime, plan.Retention.Files) // the plan may be another than when it was asked for
	output, err := w.join(ctx, &batch, lifetime, "output", w.writeOutput)
	var errs *store.File
	if err == nil {
		errs, err = w.join(ctx, &batch, lifetime, "error", w.writeErrors)
	}
	if err != nil && isOfStorage(err) { // which is nobody's fault, and may last
		return queue.Postpone(err, putOff)
	}
	if err != nil && ctx.Err() == nil && job.Errors+1 >= finalizeAttempts {
		w.Logger.Error("the results of a batch could not be put together; it has failed", "batch", batch.ID, "tenant", batch.Tenant, "error", err)
		batch.State, batch.Error = store.BatchFailed, "The results could not be put together; the operator's log has the cause."
		output, errs, err = nil, nil, nil
	}
	if err != nil {
		return err
	}
	now := w.Now()
	return w.Store.FinishBatch(ctx, job, batch, output, errs, now, now.Add(cmp.Or(plan.Retention.Batches, kept)))
}

// isOfStorage reports whether there is no room, or nothing can be written.
func isOfStorage(err error) bool {
	return errors.Is(err, blob.ErrFull) || errors.Is(err, store.ErrFull) || errors.Is(err, blob.ErrUnwritable) || errors.Is(err, store.ErrUnwritable)
}

// join makes a file of what write writes, with a lifetime or, if that is 0, for ever; nil if that is nothing. Its content lasts when
// join returns.
func (w *worker) join(ctx context.Context, batch *store.Batch, lifetime time.Duration, what string, write func(context.Context, *store.Batch, io.Writer) error) (*store.File, error) {
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(write(ctx, batch, writer)) }()
	draft, err := w.Files.Blobs.Write(ctx, reader, maxResultBytes)
	reader.Close() // the writer does not wait for a reader that has failed
	if err != nil {
		return nil, err
	}
	defer draft.Discard()
	if draft.Size == 0 {
		return nil, nil
	}
	now := w.Now().UTC().Truncate(time.Millisecond)
	file := &store.File{
		ID: store.NewID("file-", now), Tenant: batch.Tenant, Purpose: files.BatchOutput, Name: batch.ID + "_" + what + ".jsonl",
		Bytes: draft.Size, SHA256: draft.ID.String(), Created: now,
	}
	if lifetime > 0 {
		file.Expires = now.Add(lifetime)
	}
	return file, draft.Keep()
}

// shorter is the shorter one of two times, of which 0 is none.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return a + b
	}
	return min(a, b)
}

func (w *worker) writeOutput(ctx context.Context, batch *store.Batch, to io.Writer) error {
	return w.eachSegment(ctx, batch, func(segment *store.Segment) error { return w.copyBlob(to, segment.Result.Output) })
}

// notRun is why lines of a batch are not run any more.
type notRun struct{ code, text string }

func (n notRun) Error() string { return n.text }

func whyNotRun(batch *store.Batch) notRun {
	if !batch.Expired.IsZero() {
		return notRun{"batch_expired", "The batch's completion window ended before this request was run."}
	}
	return notRun{"batch_cancelled", "The batch was cancelled before this request was run."}
}

// result is what came of a line that was not run.
func (n notRun) result(customID string) result {
	return result{id: "batch_req_" + store.NewID("", time.Now()), customID: customID, wrong: n.text, code: n.code}
}

// writeErrors also names the lines that were not run.
func (w *worker) writeErrors(ctx context.Context, batch *store.Batch, to io.Writer) error {
	why := whyNotRun(batch)
	return w.eachSegment(ctx, batch, func(segment *store.Segment) error {
		if segment.State == store.SegmentDone {
			return w.copyBlob(to, segment.Result.Errors)
		}
		text, err := w.read(batch, segment)
		if err != nil {
			return err
		}
		for len(text) > 0 {
			line, taken := cutLine(text)
			text = text[taken:]
			found, _ := parseLine(line, batch.Endpoint)
			rendered, err := render(why.result(found.CustomID))
			if err != nil {
				return err
			}
			if _, err := to.Write(rendered); err != nil {
				return err
			}
		}
		return nil
	})
}

// eachSegment visits a batch's segments in order, some in memory at a time.
func (w *worker) eachSegment(ctx context.Context, batch *store.Batch, visit func(*store.Segment) error) error {
	for from := int64(0); ; {
		page, err := w.Store.SegmentsPage(ctx, batch.Tenant, batch.ID, from, segmentsPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for i := range page {
			if err := visit(&page[i]); err != nil {
				return fmt.Errorf("segment %d: %w", page[i].N, err)
			}
			from = page[i].N + 1
		}
	}
}

func (w *worker) copyBlob(to io.Writer, hash string) error {
	if hash == "" {
		return nil
	}
	id, err := blob.ParseID(hash)
	if err != nil {
		return err
	}
	content, err := w.Files.Blobs.Open(id)
	if err != nil {
		return err
	}
	defer content.Close()
	_, err = io.Copy(to, content)
	return err
}
