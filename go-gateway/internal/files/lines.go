package files

import (
	"bytes"
	"io"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
)

// Bounds of files of requests. MaxLines and the last are OpenAI's.
const (
	MaxLines      = 50_000
	MaxLineBytes  = 1 << 20
	maxLineDepth  = 64
	maxBatchBytes = 200 << 20
)

// lineChecker looks at a file of requests as it comes: each line is one JSON object. It holds one line at most, and keeps
// the first fault. Of what comes after that it takes no notice.
type lineChecker struct {
	line  []byte // what there is of the one that is not complete
	count int
	fault error
}

// Write implements io.Writer. It takes everything.
func (c *lineChecker) Write(p []byte) (int, error) {
	taken := len(p)
	for len(p) > 0 && c.fault == nil {
		part, rest, complete := bytes.Cut(p, []byte{'\n'})
		p = rest
		if len(c.line)+len(part) > MaxLineBytes {
			c.refuse("line %d is longer than %d bytes", c.count+1, MaxLineBytes)
			break
		}
		if len(c.line) > 0 || !complete { // else it is looked at where it is
			c.line = append(c.line, part...)
			part = c.line
		}
		if complete {
			c.check(part)
			c.line = c.line[:0]
		}
	}
	return taken, nil
}

// end returns the first fault of a file that is complete.
func (c *lineChecker) end() error {
	if len(c.line) > 0 && c.fault == nil {
		c.check(c.line)
		c.line = nil
	}
	if c.count == 0 && c.fault == nil {
		c.refuse("it has no line")
	}
	return c.fault
}

func (c *lineChecker) check(line []byte) {
	c.count++
	switch {
	case c.count > MaxLines:
		c.refuse("it has more than %d lines", MaxLines)
	case !utf8.Valid(line):
		c.refuse("line %d is not UTF-8", c.count)
	case len(bytes.TrimSpace(line)) == 0:
		c.refuse("line %d is empty", c.count)
	case deeper(line, maxLineDepth):
		c.refuse("line %d is nested deeper than %d", c.count, maxLineDepth)
	case jsontext.Value(line).Kind() != '{' || !jsontext.Value(line).IsValid():
		c.refuse("line %d is not one JSON object that names each field once", c.count)
	}
}

func (c *lineChecker) refuse(format string, args ...any) {
	c.line = nil
	c.fault = fault.InField(fault.InvalidValue, "file", "The file is not of purpose \""+Batch+"\": "+format+".", args...)
}

// deeper reports whether text that may be JSON opens more brackets than it closes, somewhere, by more than most.
func deeper(text []byte, most int) bool {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch letter := text[i]; {
		case letter == '"':
			quoted = !quoted
		case quoted && letter == '\\':
			i++
		case quoted:
		case letter == '{' || letter == '[':
			if depth++; depth > most {
				return true
			}
		case letter == '}' || letter == ']':
			depth--
		}
	}
	return false
}

// failEarly ends a content at the first fault of its lines.
type failEarly struct {
	content io.Reader
	lines   *lineChecker
}

func (r *failEarly) Read(p []byte) (int, error) {
	n, err := r.content.Read(p)
	if r.lines.fault != nil {
		return 0, r.lines.fault
	}
	return n, err
}
