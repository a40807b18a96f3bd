package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// progress tells how far it is: on a terminal in one line that is written over, elsewhere in a line every few seconds.
type progress struct {
	stderr   io.Writer
	terminal bool
	every    time.Duration
	total    int64 // bytes of the inputs

	mutex     sync.Mutex
	what      string  // that is done, where it is not embedding
	read      float64 // bytes whose records are done
	records   int64   // that were read
	texts     int64   // that were embedded by this process
	refused   int64
	tokens    int64
	truncated int64

	told    time.Time
	started time.Time // when the first text was embedded, and where that was
	from    float64
	shown   bool // there is a line to be written over
}

const (
	everyTerminal = 200 * time.Millisecond
	everyLine     = 5 * time.Second
)

func newProgress(stderr io.Writer, total int64) *progress {
	p := &progress{stderr: stderr, every: everyLine, total: max(total, 1), told: time.Now()}
	if file, ok := stderr.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			p.terminal, p.every = true, everyTerminal
		}
	}
	return p
}

// begin starts another reading of the inputs.
func (p *progress) begin() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.what, p.read, p.records, p.started = "", 0, 0, time.Time{}
}

func (p *progress) phase(what string) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.what, p.read, p.records = what, 0, 0
}

// counted is how many records have been read.
func (p *progress) counted(records int64) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.records = records
}

// finished adds bytes of the inputs of which nothing is left to be done.
func (p *progress) finished(bytes float64) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.read += bytes
}

// done counts a batch, or as much of it as was.
func (p *progress) done(b *batch) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.started.IsZero() {
		p.started, p.from = time.Now(), p.read
	}
	for i := range b.entries {
		if b.entries[i].Refusal != nil {
			p.refused++
		} else {
			p.texts++
		}
	}
	p.read += b.weight * float64(len(b.entries))
	p.tokens += b.tokens
	p.truncated += int64(b.truncated)
}

func (p *progress) tick() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if now := time.Now(); now.Sub(p.told) >= p.every {
		p.told = now
		p.write(p.line(now))
	}
}

func (p *progress) line(now time.Time) string {
	share := min(p.read/float64(p.total), 1)
	text := fmt.Sprintf("%5.1f %%  %d records", 100*share, p.records)
	if p.what != "" {
		return text + "  " + p.what
	}
	took := now.Sub(p.started)
	if p.started.IsZero() || took < time.Second {
		return text
	}
	text += fmt.Sprintf("  %d texts embedded, %.0f/s, %.0f tokens/s", p.texts, float64(p.texts)/took.Seconds(), float64(p.tokens)/took.Seconds())
	if p.refused > 0 {
		text += fmt.Sprintf("  %d refused", p.refused)
	}
	if p.truncated > 0 {
		text += fmt.Sprintf("  %d cut off", p.truncated)
	}
	if read := p.read - p.from; read > 0 && share < 1 {
		left := time.Duration(float64(took) * (float64(p.total) - p.read) / read)
		text += fmt.Sprintf("  %v left", left.Round(time.Second))
	}
	return text
}

// write is one of a line that is written over, or a line.
func (p *progress) write(line string) {
	if p.terminal {
		_, _ = fmt.Fprintf(p.stderr, "\r\x1b[K%s", line)
		p.shown = true
		return
	}
	_, _ = fmt.Fprintln(p.stderr, line)
}

// say writes a line that stays.
func (p *progress) say(format string, arguments ...any) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.clear()
	_, _ = fmt.Fprintf(p.stderr, format+"\n", arguments...)
}

func (p *progress) clear() {
	if p.shown {
		_, _ = fmt.Fprint(p.stderr, "\r\x1b[K")
		p.shown = false
	}
}

func (p *progress) close() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.clear()
}
