package records

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	parquetgo "github.com/apache/arrow-go/v18/parquet"
	parquetfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// written is a Parquet file of optional texts, numbers as ids, and a column that is not read; two row groups of so many rows.
func written(t testing.TB, rows int, text func(row int) *string) string {
	t.Helper()
	optional, required := parquetgo.Repetitions.Optional, parquetgo.Repetitions.Required
	root := schema.MustGroup(schema.NewGroupNode("schema", required, schema.FieldList{
		schema.MustPrimitive(schema.NewPrimitiveNode("id", required, parquetgo.Types.Int64, -1, -1)),
		schema.MustPrimitive(schema.NewPrimitiveNode("other", required, parquetgo.Types.Double, -1, -1)),
		schema.MustPrimitive(schema.NewPrimitiveNodeLogical("text", optional, schema.StringLogicalType{}, parquetgo.Types.ByteArray, -1, -1)),
	}, -1))
	var content bytes.Buffer
	writer := parquetfile.NewParquetWriter(&content, root)
	for group := range 2 {
		var ids []int64
		var texts []parquetgo.ByteArray
		var levels []int16
		for row := group * rows; row < (group+1)*rows; row++ {
			ids = append(ids, int64(row))
			levels = append(levels, 0)
			if value := text(row); value != nil {
				levels[len(levels)-1] = 1
				texts = append(texts, parquetgo.ByteArray(*value))
			}
		}
		columns, err := writer.AppendRowGroupChecked()
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			column, err := columns.NextColumn()
			if err != nil {
				t.Fatal(err)
			}
			switch column := column.(type) {
			case *parquetfile.Int64ColumnChunkWriter:
				_, err = column.WriteBatch(ids, nil, nil)
			case *parquetfile.Float64ColumnChunkWriter:
				_, err = column.WriteBatch(make([]float64, rows), nil, nil)
			case *parquetfile.ByteArrayColumnChunkWriter:
				_, err = column.WriteBatch(texts, levels, nil)
			}
			if err != nil || column.Close() != nil {
				t.Fatal(err)
			}
		}
		if err := columns.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return write(t, "a.parquet", content.String())
}

func TestParquet(t *testing.T) {
	texts := []string{"one", "", "two", strings.Repeat("x", 21), "\xff"}
	path := written(t, 3, func(row int) *string {
		if row == 2 {
			return nil
		}
		return &texts[row%len(texts)]
	})
	input, err := Open(path, limits)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, all(t, input), "0|one|1|", "1||2|empty_text", "2||3|missing_text", "3||4|text_too_long", "4||5|invalid_utf8", "5|one|6|")
	for column, message := range map[string]string{"id": "is to have strings", "nothing": "there are: id, other, text"} {
		options := limits
		options.Text = column
		if _, err := Open(path, options); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%s: got %v", column, err)
		}
	}
	options := limits
	options.ID = "other"
	if _, err := Open(path, options); err == nil || !strings.Contains(err.Error(), "strings or integers") {
		t.Errorf("got %v", err)
	}
}

// TestParquetOfManyPages has more rows than are read at once, in a dictionary and not.
func TestParquetOfManyPages(t *testing.T) {
	const rows = 5000
	texts := make([]string, 2*rows)
	for row := range texts {
		texts[row] = strings.Repeat(string(rune('a'+row%26)), 1+row%20)
	}
	path := written(t, rows, func(row int) *string { return &texts[row] })
	input, err := Open(path, limits)
	if err != nil {
		t.Fatal(err)
	}
	row := 0
	if err := input.Each(t.Context(), func(record Record) bool {
		if record.Text != texts[row] {
			t.Fatalf("row %d is %q", row, record.Text)
		}
		row++
		return true
	}); err != nil || row != len(texts) {
		t.Errorf("%d rows, %v", row, err)
	}
}

// TestADamagedParquetIsAnError at whatever byte: never a panic.
func TestADamagedParquetIsAnError(t *testing.T) {
	text := "one"
	path := written(t, 3, func(int) *string { return &text })
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(t.TempDir(), "damaged.parquet")
	for place := range content {
		other := bytes.Clone(content)
		other[place] ^= 0x55
		if err := os.WriteFile(damaged, other, 0o600); err != nil {
			t.Fatal(err)
		}
		input, err := Open(damaged, limits)
		if err == nil {
			err = input.Each(t.Context(), func(Record) bool { return true })
		}
		if err != nil && !strings.Contains(err.Error(), damaged) {
			t.Fatalf("byte %d: %v", place, err)
		}
	}
}
