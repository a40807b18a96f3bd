package batch

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"triptych.dev/gateway/internal/blob"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/periodic"
	"triptych.dev/gateway/internal/queue"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/tracing"
	"triptych.dev/gateway/internal/workpool"
)

const (
	// A line that there is no room for is repeated about so long by its worker. After that the whole segment is put off.
	lineAttempts          = 10
	linePause, lineLonger = 250 * time.Millisecond, 10 * time.Second
	longestWait           = time.Minute // that a worker waits for a limit; a longer one is for the queue
	putOff, longestPutOff = 5 * time.Second, 10 * time.Minute
	// lookEvery is how soon a segment that runs finds out that its batch was cancelled or has expired.
	lookEvery = 500 * time.Millisecond
	// A line that fails on our side, or is not done in time, is repeated so often before that is its result.
	failureAttempts = 3
)

// worker does the jobs of batches.
type worker struct {
	*Batches
	execute Execute
}

// handle does a job. One that cannot be done now is put off, until its batch's window ends.
func (w *worker) handle(ctx context.Context, job store.Job) error {
	var err error
	switch job.Kind {
	case store.SegmentJob:
		err = w.segment(ctx, job)
	case store.FinalizeJob:
		err = w.finalize(ctx, job)
	default:
		return queue.Permanent(fmt.Errorf("unknown kind %q", job.Kind))
	}
	if errors.Is(err, store.ErrNotFound) { // the batch has been forgotten
		return w.Store.FinishJob(ctx, job)
	}
	return err
}

// segment runs the lines of one.
func (w *worker) segment(ctx context.Context, job store.Job) error {
	id, n, err := store.ParseSegmentJob(job.Args)
	if err != nil {
		return queue.Permanent(err)
	}
	batch, err := w.Store.FindBatch(ctx, job.Tenant, id)
	if err != nil {
		return err
	}
	segment, err := w.Store.FindSegment(ctx, job.Tenant, id, n)
	if err != nil {
		return err
	}
	if segment.State != store.SegmentPending {
		return w.Store.FinishJob(ctx, job)
	}
	if batch.State != store.BatchInProgress { // it was claimed before, and nothing came of that
		return w.Store.FinishSegment(ctx, job, job.Tenant, id, segment, false, []store.Segment{segment}, w.Now())
	}
	owner, err := w.principal(&batch)
	if err != nil {
		return queue.Postpone(err, longestPutOff) // the tenant may come back before the window ends
	}
	text, err := w.read(&batch, &segment)
	if err != nil {
		return err
	}
	if job.Deaths >= MaxDeaths && segment.Lines > 1 {
		first, others := divide(segment, segment.Lines/2, text)
		return w.Store.FinishSegment(ctx, job, job.Tenant, id, segment, false, []store.Segment{first, others}, w.Now())
	}
	run := &segmentRun{worker: w, batch: &batch, segment: segment, owner: owner, text: text, job: job, began: time.Now()}
	if run.isSuspect() {
		if err := w.Turns.Announce(ctx, w.Store, job); err != nil {
			return err
		}
	}
	run.pending = w.Charges.Begin(store.SegmentCharge(id, n), owner, quota.Batch)
	if err := run.run(ctx); err != nil {
		run.pending.Release() // where it was finished and that is not known, it is charged all the same
		return err
	}
	w.Charges.Done(run.pending)
	return nil
}

// read returns a segment's bytes.
func (w *worker) read(batch *store.Batch, segment *store.Segment) ([]byte, error) {
	hash, err := blob.ParseID(batch.SHA256)
	if err != nil {
		return nil, err
	}
	content, err := w.Files.Blobs.Open(hash)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	text := make([]byte, segment.Length)
	_, err = content.ReadAt(text, segment.At)
	return text, err
}

// divide divides a segment into its first lines and the others.
func divide(segment store.Segment, lines int64, text []byte) (first, others store.Segment) {
	first = segment
	first.Lines, first.Length = lines, 0
	for range lines {
		_, taken := cutLine(text[first.Length:])
		first.Length += int64(taken)
	}
	return first, after(segment, first.Lines, first.Length)
}

// after is what is left of a segment behind so many lines and bytes.
func after(segment store.Segment, lines, length int64) store.Segment {
	segment.N, segment.At = segment.N+lines, segment.At+length
	segment.Lines, segment.Length = segment.Lines-lines, segment.Length-length
	return segment
}

// segmentRun is a segment while it is run.
type segmentRun struct {
	*worker
	batch   *store.Batch
	segment store.Segment
	owner   identity.Principal
	text    []byte
	job     store.Job
	began   time.Time
	pending *quota.Pending // what the lines use

	output  *io.PipeWriter // to the blob of replies
	errors  bytes.Buffer   // of refusals: they are short
	done    int64          // lines that have a result
	length  int64          // of these, in bytes
	wrote   bool           // to output
	results store.SegmentResult

	cut atomic.Bool // the hot path went away while a line ran
}

// noRoom is why a line was not served, and will be later.
type noRoom struct{ *fault.Fault }

// cutOff is why a line was not served whose hot path went away meanwhile.
type cutOff struct{ *fault.Fault }

// tooSlow is why a line was not served in time, which may be for its own length, or for all that goes before it.
type tooSlow struct{ *fault.Fault }

// lineOf is a line of a segment.
type lineOf struct {
	index int64 // in the batch
	text  []byte
	taken int64 // with its end
}

// result is what came of a line.
type result struct {
	id, requestID, customID string
	reply                   Reply
	wrong                   string // the line was not served for this reason
	code                    string
}

// run runs lines until all have, there is no room for the next one, or the time of a segment is over: the others then are a
// segment of their own. What came of lines goes into blobs as it comes.
func (r *segmentRun) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	reader, writer := io.Pipe()
	r.output = writer
	type written struct {
		draft *blob.Draft
		err   error
	}
	output := make(chan written, 1)
	go func() {
		draft, err := r.Files.Blobs.Write(ctx, reader, maxResultBytes)
		reader.CloseWithError(errors.Join(err, io.ErrClosedPipe)) // so that no writer waits for ever
		output <- written{draft, err}
	}()
	err := r.runLines(ctx)
	rest, goesOn := r.rest(err)
	if goesOn && ctx.Err() == nil {
		err = nil
	}
	writer.CloseWithError(err) // nil: its end
	kept := <-output
	if kept.draft != nil {
		defer kept.draft.Discard()
	}
	if err != nil {
		return r.putOff(ctx, err)
	}
	if err := cmp.Or(kept.err, r.keep(ctx, kept.draft)); err != nil {
		return r.putOff(ctx, err)
	}
	r.segment.Lines, r.segment.Length, r.segment.Result = r.done, r.length, r.results
	return queue.Persist(ctx, func(ctx context.Context) error { // so that a full disk, or an outage, costs no work if it is short
		return r.Store.FinishSegment(ctx, r.job, r.job.Tenant, r.batch.ID, r.segment, r.done > 0, rest, r.Now())
	})
}

// rest are the lines without a result, as segments of their own, and whether it is for them to go on after an error.
func (r *segmentRun) rest(err error) (rest []store.Segment, goesOn bool) {
	others, atOnce := after(r.segment, r.done, r.length), 2*int64(r.Lines) // that may have been begun
	_, refused := errors.AsType[noRoom](err)
	goesOn = refused && r.done > 0
	switch {
	case err != nil && r.cut.Load():
		lines, deaths := min(atOnce, others.Lines), r.job.Deaths+1
		if r.isSuspect() { // it was alone
			lines, deaths = 1, 1
		}
		var first store.Segment
		first, others = divide(others, lines, r.text[r.length:])
		first.Deaths = deaths
		rest, goesOn = append(rest, first), r.done > 0 || others.Lines > 0 // else it is all that there was
	case r.segment.Lines <= atOnce: // any of them may still be the one that kills
		others.Deaths = r.job.Deaths
	}
	if others.Lines > 0 {
		rest = append(rest, others)
	}
	return rest, goesOn
}

// isSuspect reports whether a line of the segment may have ended processes: they are run one by one, and nothing beside them.
func (r *segmentRun) isSuspect() bool {
	return r.job.Deaths >= MaxDeaths-1 || r.job.Deaths > 0 && r.segment.Lines == 1
}

// runLines runs lines until all have, the time of a segment is over, or the batch is in progress no more.
func (r *segmentRun) runLines(ctx context.Context) error {
	workers := r.Lines
	if r.isSuspect() {
		workers = 1
	}
	running, stop := context.WithCancelCause(ctx)
	var looking sync.WaitGroup
	looking.Go(func() { r.look(running, stop) })
	_, err := workpool.Run(running, workpool.Options{
		Workers: workers, Ahead: workers, // so that no worker waits for a line that takes longer than others
		Retry: workpool.Retry{Attempts: lineAttempts, Base: linePause, Max: lineLonger, If: r.again},
	}, r.lines, r.serve, func(line workpool.Result[lineOf, result]) error { return r.take(running, line) })
	stop(nil)
	looking.Wait()
	if _, stopped := errors.AsType[notRun](err); stopped && ctx.Err() == nil {
		err = nil
	}
	return err
}

// look stops what runs once the batch is in progress no more.
func (r *segmentRun) look(ctx context.Context, stop context.CancelCauseFunc) {
	periodic.Every(ctx, lookEvery, func(ctx context.Context) {
		batch, err := r.Store.FindBatch(ctx, r.job.Tenant, r.batch.ID)
		if err == nil && batch.State != store.BatchInProgress {
			stop(whyNotRun(&batch))
		}
	})
}

// keep keeps the blobs, before their names are written down.
func (r *segmentRun) keep(ctx context.Context, output *blob.Draft) error {
	if r.wrote && output != nil {
		if err := output.Keep(); err != nil {
			return err
		}
		r.results.Output, r.results.OutputBytes = output.ID.String(), output.Size
	}
	if r.errors.Len() > 0 {
		hash, size, err := r.Files.Blobs.Put(ctx, &r.errors, maxResultBytes)
		if err != nil {
			return err
		}
		r.results.Errors, r.results.ErrorsBytes = hash.String(), size
	}
	return nil
}

// lines are the source of the pool. It ends early when the segment has taken its time.
func (r *segmentRun) lines(_ context.Context, yield func(lineOf) bool) error {
	rest := r.text
	for i := range r.segment.Lines {
		if i > 0 && time.Since(r.began) > r.segmentTime {
			return nil
		}
		text, taken := cutLine(rest)
		rest = rest[taken:]
		if !yield(lineOf{r.segment.N + i, text, int64(taken)}) {
			return nil
		}
	}
	return nil
}

// serve is the work of the pool.
func (r *segmentRun) serve(ctx context.Context, line lineOf) (result, error) {
	id := store.NewID("", time.Now())
	found, wrong := parseLine(line.text, r.batch.Endpoint)
	served := result{id: "batch_req_" + id, requestID: id, customID: found.CustomID}
	switch {
	case wrong != "":
		served.code, served.wrong = "invalid_line", fmt.Sprintf("Line %d: %s", line.index+1, wrong)
		return served, nil
	case slices.Contains(r.segment.Duplicates, line.index):
		served.code, served.wrong = "duplicate_custom_id", fmt.Sprintf("Line %d: an earlier line has the custom_id %q.", line.index+1, found.CustomID)
		return served, nil
	case r.job.Deaths >= MaxDeaths: // and it is alone
		served.code, served.wrong = NotSurvived, fmt.Sprintf("Line %d: %s", line.index+1, WhyNotSurvived(r.job.Deaths))
		return served, nil
	}
	for attempt := 1; ; attempt++ {
		var err error
		served.reply, err = r.executeApart(tracing.Apart(ctx), Request{Principal: r.owner, ID: id, Endpoint: r.batch.Endpoint, Body: found.Body, Pending: r.pending})
		if err != nil { // it was not begun
			return result{}, err
		}
		failure := served.reply.Failure
		switch {
		case failure == nil: // also if nobody waits for it any more
			return served, nil
		case failure.CutOff:
			r.cut.Store(true)
			return result{}, cutOff{failure}
		case ctx.Err() != nil:
			return result{}, context.Cause(ctx)
		case served.reply.NoRoom:
			return result{}, noRoom{failure}
		case failure.Reason == fault.DeadlineExceeded && r.job.Errors < failureAttempts:
			return result{}, tooSlow{failure}
		case failure.Reason == fault.Internal && attempt < failureAttempts:
			continue
		}
		return served, nil
	}
}

// executeApart serves a line: alone if it is a suspect, and else beside all that are none.
func (r *segmentRun) executeApart(ctx context.Context, request Request) (Reply, error) {
	end, err := r.turn(ctx)
	if err != nil {
		return Reply{}, err
	}
	defer end()
	return r.execute(ctx, request), nil
}

func (r *segmentRun) turn(ctx context.Context) (end func(), err error) {
	if r.isSuspect() {
		return r.Turns.Alone(ctx, r.Store, r.job)
	}
	return r.Turns.Beside(ctx)
}

// again says whether the worker waits and serves a line again.
func (r *segmentRun) again(err error) (time.Duration, bool) {
	if refused, is := errors.AsType[noRoom](err); is {
		return refused.RetryAfter, refused.RetryAfter <= longestWait && !r.isSuspect() // who waits in the queue dies with nobody
	}
	return 0, false
}

// putOff says what becomes of a segment that could not be run to its end. Only what may be a line's own fault is counted.
func (r *segmentRun) putOff(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	if r.cut.Load() { // also if a line in front of that one had no room
		return queue.Died(err)
	}
	if _, is := errors.AsType[tooSlow](err); is {
		return err
	}
	refused, _ := errors.AsType[noRoom](err)
	return queue.Postpone(err, PutOff(refused.Fault))
}

// take is the sink of the pool: it writes down what came of a line.
func (r *segmentRun) take(running context.Context, line workpool.Result[lineOf, result]) error {
	served := line.Value
	if line.Err != nil {
		why, stopped := errors.AsType[notRun](context.Cause(running))
		if !stopped {
			return line.Err
		}
		found, _ := parseLine(line.Item.text, r.batch.Endpoint)
		served = why.result(found.CustomID)
		r.results.Skipped++
	}
	r.done++
	r.length += line.Item.taken
	text, err := render(served)
	if err != nil {
		return err
	}
	if served.wrong != "" || served.reply.Failure != nil {
		if line.Err == nil {
			r.results.Failed++
		}
		r.errors.Write(text)
		return nil
	}
	r.results.Tokens.Input += served.reply.Tokens.Input
	r.results.Tokens.Cached += served.reply.Tokens.Cached
	r.results.Tokens.Output += served.reply.Tokens.Output
	r.wrote = true
	_, err = r.output.Write(text)
	return err
}
