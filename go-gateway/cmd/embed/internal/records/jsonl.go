package records

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"github.com/go-json-experiment/json/jsontext"
)

// jsonl is a file with one JSON object a line. A line of white space alone is none.
type jsonl struct{ file }

func (j *jsonl) Each(ctx context.Context, yield func(Record) bool) error {
	opened, err := os.Open(j.path)
	if err != nil {
		return err
	}
	defer func() { _ = opened.Close() }()
	return j.wrap(j.each(ctx, opened, yield))
}

func (j *jsonl) each(ctx context.Context, content io.Reader, yield func(Record) bool) error {
	lines := lineReader{reader: bufio.NewReaderSize(content, 256<<10), limit: j.options.MaxLine}
	for number := int64(1); ctx.Err() == nil; number++ {
		line, tooLong, err := lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if number == 1 {
			line = bytes.TrimPrefix(line, []byte(byteOrderMark))
		}
		record := j.record(number, lines.read)
		switch {
		case tooLong:
			record.Failure = failure("line_too_long", "the line has more than %d bytes (--max-line-bytes)", j.options.MaxLine)
		case len(bytes.TrimSpace(line)) == 0:
			continue
		default:
			record.Failure = j.parse(line, &record)
			record.check(&j.options)
		}
		if !yield(record) {
			return nil
		}
	}
	return nil
}

// parse takes text and id from an object, and skips what else it has.
func (j *jsonl) parse(line []byte, record *Record) *Failure {
	invalid := func(err error) *Failure {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return failure("invalid_json", "the line is not one JSON object in UTF-8: %v", err)
	}
	decoder := jsontext.NewDecoder(bytes.NewBuffer(line))
	if token, err := decoder.ReadToken(); err != nil {
		return invalid(err)
	} else if token.Kind() != '{' {
		return failure("invalid_json", "the line is not a JSON object")
	}
	var found *Failure // the first that is wrong; the rest of the line is still to be valid
	var hasText, hasID bool
	for decoder.PeekKind() != '}' {
		token, err := decoder.ReadToken()
		if err != nil {
			return invalid(err)
		}
		name := token.String()
		value, err := decoder.ReadValue()
		if err != nil {
			return invalid(err)
		}
		if name == j.options.Text {
			hasText = true
			if value.Kind() != '"' {
				found = failure("not_a_string", "the field %q is no string", name)
				continue
			}
			record.Text = unquote(value)
		}
		if name == j.options.ID && j.options.ID != "" {
			switch value.Kind() {
			case '"':
				hasID, record.ID = true, unquote(value)
			case '0':
				hasID, record.ID = true, string(value)
			default:
				found = failure("not_an_id", "the field %q is no string and no number", name)
				hasID = true
			}
		}
	}
	if _, err := decoder.ReadToken(); err != nil {
		return invalid(err)
	}
	if _, err := decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return failure("invalid_json", "there is more on the line than one JSON object")
	}
	switch {
	case found != nil:
		return found
	case j.options.ID != "" && !hasID:
		return failure("missing_id", "there is no field %q", j.options.ID)
	case !hasText:
		return failure("missing_text", "there is no field %q", j.options.Text)
	default:
		return nil
	}
}

// unquote has no error: the decoder has checked the string.
func unquote(value jsontext.Value) string {
	text, _ := jsontext.AppendUnquote(nil, value)
	return string(text)
}

// lineReader reads lines that are as long as they may be, and skips longer ones without holding them.
type lineReader struct {
	reader *bufio.Reader
	limit  int
	buffer []byte
	read   int64
}

// next is a line without its end, valid until the next call. What is behind the last end is a line too, unless it is nothing.
func (l *lineReader) next() (line []byte, tooLong bool, err error) {
	l.buffer = l.buffer[:0]
	for {
		piece, err := l.reader.ReadSlice('\n')
		l.read += int64(len(piece))
		ended := err == nil
		if ended {
			piece = piece[:len(piece)-1]
		}
		if len(l.buffer)+len(piece) > l.limit {
			tooLong, l.buffer = true, l.buffer[:0]
		}
		if !tooLong {
			if ended && len(l.buffer) == 0 {
				return piece, false, nil
			}
			l.buffer = append(l.buffer, piece...)
		}
		switch {
		case ended:
			return l.buffer, tooLong, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && (tooLong || len(l.buffer) > 0):
			return l.buffer, tooLong, nil
		default:
			return nil, false, err
		}
	}
}
