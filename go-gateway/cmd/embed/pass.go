package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"triptych.dev/gateway/cmd/embed/internal/records"
	"triptych.dev/gateway/cmd/embed/internal/vectors"
	"triptych.dev/gateway/internal/workpool"
)

const (
	// A part is what a process claims at a time: so many records, or bytes of texts. All processes cut alike.
	partRecords, partBytes = 1024, 1 << 20

	// What is finished is made durable when it is so many texts or so old.
	saveTexts = 512
	saveEvery = time.Second

	// drain is how long requests that run may go on after Ctrl-C.
	drain = 8 * time.Second
)

// errInterrupted is the cause of the context after Ctrl-C.
var errInterrupted = errors.New("interrupted")

// part is a piece of the inputs, while texts of it are embedded.
type part struct {
	claim *vectors.Claim
	left  int // batches
}

// pass reads all inputs once and embeds what nobody is at.
type pass struct {
	*pipeline
	worker worker
	stop   context.CancelCauseFunc // no more is to be begun, because of this

	// Of the source's goroutine.
	hashes    []vectors.Hash
	texts     map[vectors.Hash]string // of the part: those that have no vector
	bytes     int
	readTo    int64 // bytes of the inputs; cutAt is where the part begins
	cutAt     int64
	seen      *seenIDs
	sourceErr error
	found     found

	// Of the sink's.
	unsaved []*batch
	entries int
	oldest  time.Time

	mutex sync.Mutex
	parts map[*part]bool // that are claimed
}

// found is what a pass has seen.
type found struct {
	records, failed int64 // of which failed are wrong in themselves
	sent            int64 // texts that were begun
	elsewhere       int64 // parts that others are at
	first           vectors.Hash
	content         string // a hash of ids and texts
	outcome         string // and of what became of each, if nothing was sent and nothing is elsewhere
}

// run returns when all of the inputs is read, and everything that was begun is durable.
func (p *pass) run(ctx context.Context) error {
	ending, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	p.stop, p.worker.ending = stop, ending
	p.texts, p.parts = map[vectors.Hash]string{}, map[*part]bool{}
	options := workpool.Options{
		Workers: p.concurrency, Unordered: true, Drain: drain, Retry: p.retry,
		Progress:      func(workpool.Progress) { p.tick() },
		ProgressEvery: saveEvery / 4,
	}
	_, err := workpool.Run(ending, options, p.read, p.worker.do, p.take)
	saveErr := p.save()
	for part := range p.parts { // of which not all is done
		saveErr = errors.Join(saveErr, part.claim.Release())
	}
	switch {
	case saveErr != nil:
		return saveErr
	case ending.Err() != nil:
		return context.Cause(ending)
	case p.sourceErr != nil:
		return p.sourceErr
	default:
		return err
	}
}

// read is the pool's source: it cuts the inputs into parts, and parts into batches.
func (p *pass) read(ctx context.Context, yield func(*batch) bool) error {
	content, outcome := newSum(), newSum()
	p.sourceErr = p.corpus.each(ctx, func(record *records.Record) error {
		p.found.records++
		p.progress.counted(p.found.records)
		p.readTo = record.Read
		var hash vectors.Hash
		if record.Failure != nil {
			p.found.failed++
		} else {
			hash = sha256.Sum256([]byte(record.Text))
			if p.seen != nil {
				if err := p.seen.add(record); err != nil {
					return err
				}
			}
		}
		content.add(record, hash)
		if record.Failure != nil {
			outcome.add(record, hash)
			return nil
		}
		state := p.store.Look(hash)
		outcome.add(record, hash)
		_, _ = outcome.Write([]byte{byte(state)})
		p.hashes = append(p.hashes, hash)
		p.bytes += len(record.Text)
		if state == vectors.Unknown {
			p.texts[hash] = record.Text
		}
		if len(p.hashes) < partRecords && p.bytes < partBytes {
			return nil
		}
		return p.cut(yield)
	})
	if p.sourceErr == nil {
		p.sourceErr = p.cut(yield)
	}
	if errors.Is(p.sourceErr, errEnough) {
		p.sourceErr = nil
	}
	p.found.content, p.found.outcome = content.hex(), outcome.hex()
	return p.sourceErr
}

// cut ends a part. If it has texts without vectors, and nobody else is at them, they become batches.
func (p *pass) cut(yield func(*batch) bool) error {
	hashes, texts, size := p.hashes, p.texts, float64(p.readTo-p.cutAt)
	p.hashes, p.bytes, p.cutAt = p.hashes[:0], 0, p.readTo
	if len(texts) == 0 {
		p.progress.finished(size)
		return nil
	}
	p.texts = map[vectors.Hash]string{}
	work := partHash(hashes)
	claim, err := p.store.Claim(work)
	if err != nil {
		return err
	}
	if claim == nil {
		p.progress.finished(size)
		if p.found.elsewhere++; p.found.elsewhere == 1 {
			p.found.first = work
		}
		return nil
	}
	// What others finished until now, they have given back: it is known from here on.
	if err := p.store.Refresh(); err != nil {
		return errors.Join(err, claim.Release())
	}
	part := &part{claim: claim}
	batches := p.batches(part, hashes, texts)
	if part.left = len(batches); part.left == 0 {
		p.progress.finished(size)
		return claim.Release()
	}
	wanted := 0
	for _, batch := range batches {
		wanted += len(batch.texts)
	}
	for _, batch := range batches {
		batch.weight = size / float64(wanted)
	}
	p.began(part)
	for _, batch := range batches {
		if !yield(batch) {
			return errEnough
		}
	}
	return nil
}

func partHash(hashes []vectors.Hash) vectors.Hash {
	sum := sha256.New()
	for i := range hashes {
		_, _ = sum.Write(hashes[i][:])
	}
	return vectors.Hash(sum.Sum(nil))
}

// batches are of the texts that are still unknown, which they are no longer then.
func (p *pass) batches(part *part, hashes []vectors.Hash, texts map[vectors.Hash]string) (made []*batch) {
	var last *batch
	bytes := 0
	for _, hash := range hashes {
		text, wanted := texts[hash]
		if !wanted || !p.store.Begin(hash) {
			continue
		}
		if last == nil || len(last.texts) == p.batchTexts || bytes+len(text) > p.batchBytes {
			last, bytes = &batch{part: part}, 0
			made = append(made, last)
		}
		last.hashes, last.texts = append(last.hashes, hash), append(last.texts, text)
		bytes += len(text)
		p.found.sent++
	}
	for _, batch := range made {
		batch.todo = [][2]int{{0, len(batch.texts)}}
	}
	return made
}

// began and ended keep the parts whose claims are to be given back.
func (p *pass) began(part *part) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.parts[part] = true
}

func (p *pass) ended(part *part) error {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	delete(p.parts, part)
	return part.claim.Release()
}

// take is the pool's sink.
func (p *pass) take(result workpool.Result[*batch, *batch]) error {
	b := result.Item
	if len(p.unsaved) == 0 {
		p.oldest = time.Now()
	}
	p.unsaved = append(p.unsaved, b)
	p.entries += len(b.entries)
	b.texts = nil // an entry is enough from here on
	p.progress.done(b)
	if result.Err != nil && !errors.Is(result.Err, workpool.ErrEnding) {
		p.stop(result.Err) // what runs is finished and kept
	}
	if p.entries >= saveTexts || time.Since(p.oldest) >= saveEvery {
		return p.save()
	}
	return nil
}

// tick is called by the pool when nothing may have come for a while.
func (p *pass) tick() {
	if len(p.unsaved) > 0 && time.Since(p.oldest) >= saveEvery {
		if err := p.save(); err != nil {
			p.stop(err)
		}
	}
	p.progress.tick()
}

// save makes what has come durable, and then gives claims back.
func (p *pass) save() error {
	entries := make([]vectors.Entry, 0, p.entries)
	for _, b := range p.unsaved {
		entries = append(entries, b.entries...)
	}
	if err := p.store.Append(entries); err != nil {
		return &saveError{err}
	}
	for _, b := range p.unsaved {
		if len(b.todo) > 0 {
			continue
		}
		if b.part.left--; b.part.left == 0 {
			if err := p.ended(b.part); err != nil {
				return err
			}
		}
	}
	clear(p.unsaved)
	p.unsaved, p.entries = p.unsaved[:0], 0
	return nil
}

// saveError is of the disk, which has to be looked at.
type saveError struct{ error }

func (e *saveError) Unwrap() error { return e.error }
