package records

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// table is a file of rows, of which the first has the columns' names. A field in quotes may have several lines.
type table struct {
	file
	comma    rune
	text, id int // columns; id is -1 where there is none
}

func openCSV(file file, comma rune) (*table, error) {
	t := &table{file: file, comma: comma, id: -1}
	opened, err := os.Open(t.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = opened.Close() }()
	rows, _ := t.rows(opened)
	header, err := rows.Read()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s is empty: its first row has to have the columns' names", t.path)
	}
	if err != nil {
		return nil, t.wrap(err)
	}
	if t.text, err = column(header, t.options.Text); err != nil {
		return nil, t.wrap(err)
	}
	if t.options.ID != "" {
		if t.id, err = column(header, t.options.ID); err != nil {
			return nil, t.wrap(err)
		}
	}
	return t, nil
}

// column is where a name is in the header.
func column(header []string, name string) (int, error) {
	place := slices.Index(header, name)
	if place < 0 {
		return 0, fmt.Errorf("there is no column %q; there are: %.500s", name, strings.Join(header, ", "))
	}
	if slices.Contains(header[place+1:], name) {
		return 0, fmt.Errorf("there are two columns %q", name)
	}
	return place, nil
}

// rows reads a file; what it returns beside is to be told of each row that was read.
func (t *table) rows(content io.Reader) (*csv.Reader, *rowLimit) {
	limited := &rowLimit{reader: content, limit: t.options.MaxLine}
	buffered := bufio.NewReaderSize(limited, readAhead)
	if mark, err := buffered.Peek(len(byteOrderMark)); err == nil && string(mark) == byteOrderMark {
		_, _ = buffered.Discard(len(byteOrderMark))
	}
	rows := csv.NewReader(buffered)
	rows.Comma, rows.ReuseRecord = t.comma, true
	return rows, limited
}

func (t *table) Each(ctx context.Context, yield func(Record) bool) error {
	opened, err := os.Open(t.path)
	if err != nil {
		return err
	}
	defer func() { _ = opened.Close() }()
	return t.wrap(t.each(ctx, opened, yield))
}

func (t *table) each(ctx context.Context, content io.Reader, yield func(Record) bool) error {
	rows, limited := t.rows(content)
	if _, err := rows.Read(); err != nil {
		return err
	}
	for ctx.Err() == nil {
		limited.held = 0
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		// Whatever else is wrong with quotes leaves open where the next row begins.
		if err != nil && !errors.Is(err, csv.ErrFieldCount) {
			return err
		}
		line := 0
		if len(row) > 0 {
			line, _ = rows.FieldPos(0)
		}
		record := t.record(int64(line), rows.InputOffset())
		if err != nil {
			record.Failure = failure("wrong_columns", "the row has %d columns, and the header has %d", len(row), rows.FieldsPerRecord)
		} else {
			record.Text = strings.Clone(row[t.text])
			if t.id >= 0 {
				record.ID = strings.Clone(row[t.id])
			}
		}
		record.check(&t.options)
		if !yield(record) {
			return nil
		}
	}
	return nil
}

// readAhead is what may be read beyond a row.
const readAhead = 64 << 10

// rowLimit ends the reading of a row that is too long: the rest of the file would be held, where a quote is not closed.
type rowLimit struct {
	reader io.Reader
	limit  int
	held   int // since the last row
}

func (r *rowLimit) Read(buffer []byte) (int, error) {
	if r.held > r.limit+readAhead {
		return 0, fmt.Errorf("a row has more than %d bytes (--max-line-bytes), or a quote that is not closed", r.limit)
	}
	n, err := r.reader.Read(buffer)
	r.held += n
	return n, err
}
