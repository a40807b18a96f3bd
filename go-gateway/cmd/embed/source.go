package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"

	"triptych.dev/gateway/cmd/embed/internal/records"
	"triptych.dev/gateway/cmd/embed/internal/vectors"
)

// corpus is all inputs, one after the other.
type corpus struct {
	inputs []records.Input
	names  []string
	size   int64 // bytes, about
	ownIDs bool
}

func openCorpus(s *settings) (*corpus, error) {
	c := &corpus{names: s.inputs}
	var problems []error
	for _, path := range s.inputs {
		input, err := records.Open(path, s.records)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		c.inputs = append(c.inputs, input)
		c.size += input.Size()
		c.ownIDs = c.ownIDs || input.OwnIDs()
	}
	return c, errors.Join(problems...)
}

// errEnough ends the reading without being an error of it.
var errEnough = errors.New("enough")

// each reads all. Read counts bytes over all inputs; ids that no input has are told apart by the input's name.
func (c *corpus) each(ctx context.Context, use func(*records.Record) error) error {
	var before int64
	for _, input := range c.inputs {
		var failed error
		err := input.Each(ctx, func(record records.Record) bool {
			record.Read += before
			if !input.OwnIDs() && len(c.inputs) > 1 {
				record.ID = record.Input + ":" + record.ID
			}
			failed = use(&record)
			return failed == nil
		})
		switch {
		case errors.Is(failed, errEnough):
			return nil
		case failed != nil:
			return failed
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		before += input.Size()
	}
	return nil
}

// sum is a hash of what was read, by which two readings are the same.
type sum struct{ hash.Hash }

func newSum() sum { return sum{sha256.New()} }

func (s sum) add(record *records.Record, content vectors.Hash) {
	var head [9]byte
	binary.LittleEndian.PutUint64(head[1:], uint64(len(record.ID)))
	if record.Failure != nil {
		head[0] = 1
		content = sha256.Sum256([]byte(record.Failure.Code + record.Failure.Message))
	}
	_, _ = s.Write(head[:])
	_, _ = io.WriteString(s, record.ID)
	_, _ = s.Write(content[:])
}

func (s sum) hex() string { return hex.EncodeToString(s.Sum(nil)) }

// seenIDs finds ids that are there twice. It holds a hash of each, and not more: of ten million ids, two have the same one
// once in 370,000 times.
type seenIDs struct {
	names []string
	seed  maphash.Seed
	seen  map[uint64]uint64 // hash → input and line
}

const lineBits = 44

func (c *corpus) newSeenIDs() *seenIDs {
	return &seenIDs{c.names, maphash.MakeSeed(), map[uint64]uint64{}}
}

func (s *seenIDs) add(record *records.Record) error {
	key := maphash.String(s.seed, record.ID)
	if first, twice := s.seen[key]; twice {
		return fmt.Errorf("the id %.200q is at %s:%d and at %s:%d; --allow-duplicate-ids keeps both",
			record.ID, s.names[first>>lineBits], first&(1<<lineBits-1), record.Input, record.Line)
	}
	for i, name := range s.names {
		if name == record.Input {
			s.seen[key] = uint64(i)<<lineBits | uint64(record.Line)
		}
	}
	return nil
}
