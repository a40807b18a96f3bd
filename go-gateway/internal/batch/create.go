package batch

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/store"
)

const readBuffer = 64 << 10

// Asked is what a tenant says of a batch.
type Asked struct {
	File, Endpoint string
	Metadata       string // JSON; empty: none
	// OutputLifetime is for how long the files are kept that come out; 0: as the plan says.
	OutputLifetime time.Duration
}

// Create adds a batch, of which the endpoint is known to be one.
func (b *Batches) Create(ctx context.Context, owner identity.Principal, asked Asked, answering store.Answering[store.Batch]) (store.Batch, error) {
	if !owner.Scopes.MayAsk(asked.Endpoint) {
		return store.Batch{}, owner.Scopes.LacksEndpoint(asked.Endpoint)
	}
	if _, err := files.Lifetime(asked.OutputLifetime, "output_expires_after.seconds", owner.Plan); err != nil {
		return store.Batch{}, err
	}
	if err := b.Files.CheckRoom(); err != nil {
		return store.Batch{}, err
	}
	file, content, err := b.Files.Open(ctx, owner.Tenant, asked.File)
	if err != nil {
		return store.Batch{}, inFile(err, asked.File)
	}
	defer content.Close()
	if file.Purpose != files.Batch {
		return store.Batch{}, fault.InField(fault.InvalidValue, "input_file_id", "The file's purpose must be %q, not %q.", files.Batch, file.Purpose)
	}
	plan, err := cut(ctx, content, asked.Endpoint)
	if err != nil {
		return store.Batch{}, err
	}
	now := b.Now().UTC().Truncate(time.Millisecond)
	batch := store.Batch{
		ID: store.NewID("batch_", now), Tenant: owner.Tenant, Plan: owner.Plan.Name, Key: owner.KeyID, Scopes: owner.Scopes.String(),
		File: file.ID, SHA256: file.SHA256, Bytes: file.Bytes, Endpoint: asked.Endpoint, Model: plan.model, Metadata: asked.Metadata,
		State: store.BatchInProgress, Lines: plan.lines, Pending: int64(len(plan.segments)), Enqueued: plan.bytes, Created: now, Expires: now.Add(lifetime),
		OutputLifetime: asked.OutputLifetime,
	}
	answer, err := answering(batch)
	if err != nil {
		return store.Batch{}, err
	}
	most := store.BatchLimits{Batches: maxOpen, Enqueued: owner.Plan.EnqueuedTokens}
	err = b.Store.AddBatch(ctx, owner.Tenant, batch, plan.segments, most, answer)
	if full, is := errors.AsType[store.ErrBatchLimit](err); is {
		return store.Batch{}, limited(owner.Plan, full, plan.bytes)
	}
	if err != nil {
		return store.Batch{}, files.Explain(err, files.NotFoundBy("input_file_id", asked.File))
	}
	return batch, nil
}

// inFile names the field by which the request has the file.
func inFile(err error, id string) error {
	if fault.Of(err).Reason == fault.FileNotFound {
		return files.NotFoundBy("input_file_id", id)
	}
	return err
}

// limited says which limit another batch would exceed.
func limited(plan identity.Plan, full store.ErrBatchLimit, bytes int64) error {
	refused := &fault.Fault{Reason: fault.BatchLimited, Param: "input_file_id"}
	if full.Used.Batches >= full.Most.Batches {
		refused.Limit, refused.Actual = uint64(full.Most.Batches), uint64(full.Used.Batches)
		refused.Message = fmt.Sprintf("The tenant has %d batches that have not ended, and may have %d. Repeat the request once one has.", full.Used.Batches, full.Most.Batches)
		return refused
	}
	refused.Limit, refused.Actual = uint64(full.Most.Enqueued), uint64(full.Used.Enqueued+bytes)
	refused.Message = fmt.Sprintf("The plan %q allows %d tokens in batches that have not ended (enqueued_tokens); this one may come to %d, a byte for a token, and there are %d. Repeat the request once some have ended.",
		plan.Name, full.Most.Enqueued, bytes, full.Used.Enqueued)
	return refused
}

// cuts are what a file is cut into.
type cuts struct {
	segments     []store.Segment
	lines, bytes int64
	model        string // of all lines; empty: they name several
}

// cut reads a file once, and holds a line of it at a time, and 16 bytes for each custom_id. A line that is wrong is left in
// its place: it fails by itself when it is run.
func cut(ctx context.Context, content io.Reader, endpoint string) (cuts, error) {
	var plan cuts
	var segment store.Segment
	seen := map[[16]byte]struct{}{}
	reader := bufio.NewReaderSize(content, readBuffer)
	var text []byte
	for {
		if err := ctx.Err(); err != nil {
			return cuts{}, err
		}
		var err error
		text, err = readLine(reader, text[:0])
		if err != nil && !errors.Is(err, io.EOF) {
			return cuts{}, err
		}
		if len(text) == 0 {
			break
		}
		index, length := plan.lines, int64(len(text))
		if plan.lines++; plan.lines > files.MaxLines {
			return cuts{}, fault.InField(fault.InvalidValue, "input_file_id", "The file has more than %d lines.", files.MaxLines)
		}
		if segment.Lines > 0 && (segment.Lines >= segmentLines || segment.Length+length > segmentBytes) {
			plan.segments = append(plan.segments, segment)
			segment = store.Segment{N: index, At: plan.bytes}
		}
		segment.Lines++
		segment.Length += length
		plan.bytes += length
		first, _ := cutLine(text)
		found, wrong := parseLine(first, endpoint)
		if wrong != "" {
			continue
		}
		sum := sha256.Sum256([]byte(found.CustomID))
		hash := [16]byte(sum[:16])
		if _, twice := seen[hash]; twice {
			segment.Duplicates = append(segment.Duplicates, index)
		}
		seen[hash] = struct{}{}
		if model := ModelOf(found.Body); index == 0 {
			plan.model = model
		} else if model != plan.model {
			plan.model = ""
		}
	}
	if segment.Lines == 0 {
		return cuts{}, fault.InField(fault.InvalidValue, "input_file_id", "The file has no line.")
	}
	plan.segments = append(plan.segments, segment)
	return plan, nil
}

// readLine appends a line with its end to text; nothing at the end of the file.
func readLine(reader *bufio.Reader, text []byte) ([]byte, error) {
	for {
		part, err := reader.ReadSlice('\n')
		text = append(text, part...)
		if len(text) > files.MaxLineBytes+1 {
			return nil, fault.InField(fault.InvalidValue, "input_file_id", "A line of the file is longer than %d bytes.", files.MaxLineBytes)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return text, err
		}
	}
}
