package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

	"triptych.dev/gateway/cmd/embed/internal/api"
	"triptych.dev/gateway/cmd/embed/internal/vectors"
	"triptych.dev/gateway/internal/workpool"
)

// batch is the texts of a request, until each has a vector or is refused.
type batch struct {
	part   *part
	hashes []vectors.Hash
	texts  []string
	weight float64 // bytes of the inputs that each of them stands for

	// One worker at a time has these.
	todo      [][2]int // ranges of texts, the next one last
	entries   []vectors.Entry
	tokens    int64
	truncated int
}

// worker embeds batches. What it says no to alone fails alone; what is busy is waited for; what else fails is the pool's to
// try again, and goes on with what is left of the batch.
type worker struct {
	client *api.Client
	gate   *gate
	ending context.Context // ended when nothing more is to be begun
}

func (w *worker) do(ctx context.Context, b *batch) (*batch, error) {
	for len(b.todo) > 0 {
		if err := w.gate.pass(w.ending); err != nil {
			return b, err
		}
		from, to := b.todo[len(b.todo)-1][0], b.todo[len(b.todo)-1][1]
		reply, err := w.client.Embed(ctx, b.texts[from:to])
		var told *api.Error
		switch {
		case err == nil:
			w.gate.opened()
			b.todo = b.todo[:len(b.todo)-1]
			for i, vector := range reply.Vectors {
				b.entries = append(b.entries, vectors.Entry{Hash: b.hashes[from+i], Vector: vector})
			}
			b.tokens += reply.Tokens
			b.truncated += reply.Truncated
		case errors.As(err, &told) && told.OfTexts():
			w.gate.opened()
			b.todo = b.todo[:len(b.todo)-1]
			b.narrow(from, to, told)
		case errors.As(err, &told) && told.Busy():
			if err := w.gate.close(told); err != nil {
				return b, err
			}
		default:
			return b, err
		}
	}
	return b, nil
}

var inputParam = regexp.MustCompile(`^input\[(\d+)\]$`)

// narrow finds the text that a refusal is of: it is named, or alone, or in one of two halves.
func (b *batch) narrow(from, to int, told *api.Error) {
	refuse := func(i int) {
		b.entries = append(b.entries, vectors.Entry{Hash: b.hashes[i], Refusal: &vectors.Refusal{Code: told.Code, Message: told.Message}})
	}
	push := func(from, to int) {
		if from < to {
			b.todo = append(b.todo, [2]int{from, to})
		}
	}
	if to-from == 1 {
		refuse(from)
		return
	}
	if found := inputParam.FindStringSubmatch(told.Param); found != nil {
		if i, err := strconv.Atoi(found[1]); err == nil && i < to-from {
			refuse(from + i)
			push(from+i+1, to)
			push(from, from+i)
			return
		}
	}
	half := from + (to-from)/2
	push(half, to)
	push(from, half)
}

// again is what the pool tries once more: what may be an outage.
func again(err error) (time.Duration, bool) {
	var told *api.Error
	var promoted *api.RevisionError
	var patience *patienceError
	switch {
	case errors.As(err, &promoted), errors.As(err, &patience), errors.Is(err, api.ErrReply), errors.Is(err, api.ErrNoRevision), errors.Is(err, errInterrupted):
		return 0, false
	case errors.As(err, &told):
		return told.Pause, !told.Never && (told.Status >= http.StatusInternalServerError || told.Status == http.StatusRequestTimeout)
	default: // of the network
		return 0, true
	}
}

// retries outlast the restart of a service: about a minute for each batch.
var retries = workpool.Retry{Attempts: 10, Base: 500 * time.Millisecond, Max: 30 * time.Second, Budget: 1, If: again}

// gate holds all workers up when one has been told that there is no room.
type gate struct {
	patience time.Duration

	mutex sync.Mutex
	until time.Time
	good  time.Time // when something succeeded last
}

func newGate(patience time.Duration) *gate { return &gate{patience: patience, good: time.Now()} }

// patienceError is a service that had no room for too long.
type patienceError struct {
	told     *api.Error
	patience time.Duration
}

func (e *patienceError) Error() string {
	return fmt.Sprintf("nothing was taken for %v (--patience): %v", e.patience, e.told)
}

// pass waits while the gate is closed. They do not all come at once when it opens.
func (g *gate) pass(ending context.Context) error {
	for {
		g.mutex.Lock()
		pause := time.Until(g.until)
		g.mutex.Unlock()
		if ending.Err() != nil {
			return context.Cause(ending)
		}
		if pause <= 0 {
			return nil
		}
		if !workpool.Sleep(ending, pause+rand.N(pause/8+time.Millisecond)) {
			return context.Cause(ending)
		}
	}
}

// close closes it for as long as the service asks for.
func (g *gate) close(told *api.Error) error {
	pause := told.Pause
	if pause <= 0 {
		pause = time.Second
	}
	g.mutex.Lock()
	defer g.mutex.Unlock()
	now := time.Now()
	if now.Sub(g.good) > g.patience {
		return &patienceError{told, g.patience}
	}
	if until := now.Add(pause); until.After(g.until) {
		g.until = until
	}
	return nil
}

func (g *gate) opened() {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.good = time.Now()
}
