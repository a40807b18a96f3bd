package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/cmd/embed/internal/output"
	"triptych.dev/gateway/cmd/embed/internal/records"
	"triptych.dev/gateway/cmd/embed/internal/vectors"
	"triptych.dev/gateway/internal/disk"
)

// done is what the result is of: done.json.
type done struct {
	Model      string           `json:"model"`
	Revision   string           `json:"revision"`
	Dimensions int              `json:"dimensions"`
	Records    int64            `json:"records"`
	Vectors    int64            `json:"vectors"`
	Failed     int64            `json:"failed"`
	Outcome    string           `json:"outcome"` // a hash of all ids, texts and of what became of them
	Files      map[string]int64 `json:"files"`   // bytes
}

func (p *pipeline) path(name string) string { return filepath.Join(p.output, name) }

// readDone is zero if there is no result, or not all of it.
func (p *pipeline) readDone() (done, error) {
	content, err := os.ReadFile(p.path(doneFile))
	if errors.Is(err, os.ErrNotExist) {
		return done{}, nil
	}
	var result done
	if err == nil {
		err = json.Unmarshal(content, &result)
	}
	if err != nil {
		return done{}, fmt.Errorf("%s: %w", p.path(doneFile), err)
	}
	for name, size := range result.Files {
		if info, err := os.Stat(p.path(name)); err != nil || info.Size() != size {
			return done{}, nil
		}
	}
	return result, nil
}

// is reports whether a result is that of a pass which had nothing to do.
func (d *done) is(found found, revision string) bool {
	return found.sent == 0 && found.elsewhere == 0 && d.Outcome == found.outcome && d.Revision == revision
}

// errChanged is that of inputs that are not what they were a moment ago.
var errChanged = errors.New("the inputs have changed while they were read: run the same command again")

// conclude writes the result, unless it is there already.
func (p *pipeline) conclude(ctx context.Context, found found, begun done) (done, error) {
	if begun.is(found, p.client.Revision) {
		return begun, nil
	}
	if found.records == 0 {
		return done{}, errors.New("the inputs have no records")
	}
	assembling, err := lock(ctx, p.path(assemblyLock))
	if err != nil {
		return done{}, err
	}
	defer func() { _ = assembling.Close() }()
	now, err := p.readDone()
	if err != nil {
		return done{}, err
	}
	if now.Outcome != "" && now.Outcome != begun.Outcome { // somebody else has been at it
		pass := &pass{pipeline: p, worker: worker{client: p.client, gate: newGate(p.patience)}}
		if err := pass.run(ctx); err != nil {
			return done{}, err
		}
		if now.is(pass.found, p.client.Revision) {
			return now, nil
		}
	}
	if err := p.store.Refresh(); err != nil {
		return done{}, err
	}
	return p.assemble(ctx, found)
}

// assemble reads the inputs once more and writes what is known of each record, in their order. Until all files are in place,
// there is no done.json.
func (p *pipeline) assemble(ctx context.Context, found found) (_ done, err error) {
	p.progress.phase("writing the result")
	result := done{
		Model: p.model, Revision: p.client.Revision, Dimensions: p.store.Dimensions(), Files: map[string]int64{},
	}
	table, err := output.New(p.format, p.output, result.Dimensions, result.Revision)
	if err != nil {
		return done{}, &saveError{err}
	}
	failed, err := output.Create(p.path(failedFile))
	if err != nil {
		table.Discard()
		return done{}, &saveError{err}
	}
	defer func() {
		if err != nil {
			table.Discard()
			failed.Discard()
		}
	}()
	content, outcome := newSum(), newSum()
	read := int64(0)
	err = p.corpus.each(ctx, func(record *records.Record) error {
		result.Records++
		p.progress.counted(result.Records)
		p.progress.finished(float64(record.Read - read))
		read = record.Read
		p.progress.tick()
		if record.Failure != nil {
			content.add(record, vectors.Hash{})
			outcome.add(record, vectors.Hash{})
			result.Failed++
			return writeFailure(failed, record, record.Failure.Code, record.Failure.Message)
		}
		hash := vectors.Hash(sha256.Sum256([]byte(record.Text)))
		content.add(record, hash)
		outcome.add(record, hash)
		state := p.store.Look(hash)
		_, _ = outcome.Write([]byte{byte(state)})
		if state != vectors.Embedded && state != vectors.Refused {
			return errChanged
		}
		entry, err := p.store.Get(hash)
		if err != nil {
			return err
		}
		if entry.Refusal != nil {
			result.Failed++
			return writeFailure(failed, record, entry.Refusal.Code, entry.Refusal.Message)
		}
		result.Vectors++
		if err := table.Add(output.Row{ID: record.ID, Hash: hex.EncodeToString(hash[:]), Vector: entry.Vector}); err != nil {
			return &saveError{err}
		}
		return nil
	})
	if err != nil {
		return done{}, err
	}
	if content.hex() != found.content {
		return done{}, errChanged
	}
	result.Outcome = outcome.hex()
	if err := p.place(&result, table, failed); err != nil {
		return done{}, &saveError{err}
	}
	return result, nil
}

// place has all drafts take their places.
func (p *pipeline) place(result *done, table output.Table, failed *output.Draft) error {
	drafts, err := table.Finish()
	if err := errors.Join(err, failed.Finish()); err != nil {
		return err
	}
	if err := os.Remove(p.path(doneFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := disk.SyncFolder(p.output); err != nil {
		return err
	}
	for _, draft := range append(drafts, failed) {
		if err := draft.Place(); err != nil {
			return err
		}
	}
	for _, name := range append([]string{failedFile}, output.Formats[p.format]...) {
		info, err := os.Stat(p.path(name))
		if err != nil {
			return err
		}
		result.Files[name] = info.Size()
	}
	content, err := json.Marshal(result, jsontext.WithIndent("  "), json.Deterministic(true))
	if err != nil {
		return err
	}
	return output.WriteFile(p.path(doneFile), append(content, '\n'))
}

type failureLine struct {
	ID      string `json:"id"`
	Input   string `json:"input"`
	Line    int64  `json:"line"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

func writeFailure(failed *output.Draft, record *records.Record, code, message string) error {
	line, err := json.Marshal(failureLine{record.ID, record.Input, record.Line, code, message})
	if err == nil {
		_, err = failed.Write(append(line, '\n'))
	}
	if err != nil {
		return &saveError{err}
	}
	return nil
}
