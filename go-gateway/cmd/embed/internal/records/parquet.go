package records

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	parquetgo "github.com/apache/arrow-go/v18/parquet"
	parquetfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// parquet is a Parquet file, of which two columns are read, page by page. A row's line is its number.
type parquet struct{ file }

// rowsAtOnce are held: a text of each may be as long as texts may be.
const rowsAtOnce = 32

func openParquet(file file) (*parquet, error) {
	p := &parquet{file}
	return p, p.reading(func(*parquetfile.Reader, int, int) error { return nil })
}

// reading opens the file and finds the columns; that of the id is -1 where there is none. The library panics over some
// files that are not as they say they are.
func (p *parquet) reading(read func(opened *parquetfile.Reader, text, id int) error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("the file is damaged: %v", value)
		}
		err = p.wrap(err)
	}()
	properties := parquetgo.NewReaderProperties(nil)
	properties.BufferedStreamEnabled = true // a page at a time rather than a column of a row group
	opened, err := parquetfile.OpenParquetFile(p.path, false, parquetfile.WithReadProps(properties))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	text, err := findColumn(opened.MetaData().Schema, p.options.Text, false)
	if err != nil {
		return err
	}
	id := -1
	if p.options.ID != "" {
		if id, err = findColumn(opened.MetaData().Schema, p.options.ID, true); err != nil {
			return err
		}
	}
	return read(opened, text, id)
}

func findColumn(described *schema.Schema, name string, numbers bool) (int, error) {
	var names []string
	for i := range described.NumColumns() {
		names = append(names, described.Column(i).Path())
	}
	place, err := column(names, name)
	if err != nil {
		return 0, err
	}
	found := described.Column(place)
	if found.MaxRepetitionLevel() == 0 && found.MaxDefinitionLevel() <= 1 {
		switch found.PhysicalType() {
		case parquetgo.Types.ByteArray:
			return place, nil
		case parquetgo.Types.Int32, parquetgo.Types.Int64:
			if numbers {
				return place, nil
			}
		default:
		}
	}
	allowed := "strings"
	if numbers {
		allowed = "strings or integers"
	}
	return 0, fmt.Errorf("the column %q has the type %s, and is to have %s", name, found.PhysicalType(), allowed)
}

func (p *parquet) Each(ctx context.Context, yield func(Record) bool) error {
	return p.reading(func(opened *parquetfile.Reader, text, id int) error {
		number, total := int64(0), float64(max(opened.NumRows(), 1))
		for group := range opened.NumRowGroups() {
			texts, err := newCells(opened, group, text)
			if err != nil {
				return err
			}
			ids := texts
			if id >= 0 && id != text {
				if ids, err = newCells(opened, group, id); err != nil {
					return err
				}
			}
			for left := opened.RowGroup(group).NumRows(); left > 0; {
				rows := int(min(left, rowsAtOnce))
				if err := texts.read(rows); err != nil {
					return err
				}
				if ids != texts {
					if err := ids.read(rows); err != nil {
						return err
					}
				}
				left -= int64(rows)
				for row := range rows {
					number++
					record := p.record(number, int64(float64(p.size)*float64(number)/total))
					p.fill(&record, texts.values[row], ids.values[row])
					record.check(&p.options)
					if ctx.Err() != nil || !yield(record) {
						return nil
					}
				}
			}
		}
		return nil
	})
}

func (p *parquet) fill(record *Record, text, id *string) {
	if p.options.ID != "" {
		if id == nil {
			record.Failure = failure("missing_id", "the column %q is null", p.options.ID)
			return
		}
		record.ID = *id
	}
	if text == nil {
		record.Failure = failure("missing_text", "the column %q is null", p.options.Text)
		return
	}
	record.Text = *text
}

// cells reads a column of a row group.
type cells struct {
	decode   func(rows int) (levels int64, values int, err error)
	value    func(place int) string
	levels   [rowsAtOnce]int16
	optional bool
	values   [rowsAtOnce]*string // of the rows that were read last; nil is null
}

func newCells(opened *parquetfile.Reader, group, place int) (*cells, error) {
	chunk, err := opened.RowGroup(group).Column(place)
	if err != nil {
		return nil, err
	}
	c := &cells{optional: chunk.Descriptor().MaxDefinitionLevel() > 0}
	switch reader := chunk.(type) {
	case *parquetfile.ByteArrayColumnChunkReader:
		var held [rowsAtOnce]parquetgo.ByteArray
		c.decode = func(rows int) (int64, int, error) { return reader.ReadBatch(int64(rows), held[:], c.levels[:], nil) }
		c.value = func(place int) string { return string(held[place]) }
	case *parquetfile.Int32ColumnChunkReader:
		var held [rowsAtOnce]int32
		c.decode = func(rows int) (int64, int, error) { return reader.ReadBatch(int64(rows), held[:], c.levels[:], nil) }
		c.value = func(place int) string { return strconv.FormatInt(int64(held[place]), 10) }
	case *parquetfile.Int64ColumnChunkReader:
		var held [rowsAtOnce]int64
		c.decode = func(rows int) (int64, int, error) { return reader.ReadBatch(int64(rows), held[:], c.levels[:], nil) }
		c.value = func(place int) string { return strconv.FormatInt(held[place], 10) }
	default:
		return nil, fmt.Errorf("a column has the type %s", strings.ToLower(chunk.Type().String()))
	}
	return c, nil
}

func (c *cells) read(rows int) error {
	levels, values, err := c.decode(rows)
	if err != nil {
		return err
	}
	if levels != int64(rows) {
		return fmt.Errorf("a column ends after %d of %d rows", levels, rows)
	}
	place := 0
	for row := range rows {
		c.values[row] = nil
		if c.optional && c.levels[row] == 0 {
			continue
		}
		if place == values {
			return errors.New("a column has less values than it says")
		}
		value := c.value(place)
		c.values[row] = &value
		place++
	}
	return nil
}
