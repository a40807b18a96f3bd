package output

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
)

const dimensions = 5

// bits has numbers that no decimal would bring back: NaNs, a negative zero, a denormal one.
func bits(row int) []uint32 {
	return []uint32{0x7fc00001, 0x80000000, 1, math.Float32bits(float32(row)), 0xff800000}
}

func row(n int) Row {
	row := Row{ID: fmt.Sprintf("id %d\n\"é\"", n), Hash: fmt.Sprintf("%064x", n)}
	for _, number := range bits(n) {
		row.Vector = binary.LittleEndian.AppendUint32(row.Vector, number)
	}
	return row
}

func written(t *testing.T, format string, rows, dimensions int) string {
	t.Helper()
	folder := t.TempDir()
	table, err := New(format, folder, dimensions, "abc")
	if err != nil {
		t.Fatal(err)
	}
	for n := range rows {
		if err := table.Add(row(n)); err != nil {
			t.Fatal(err)
		}
	}
	if names, _ := filepath.Glob(filepath.Join(folder, "*")); !slices.ContainsFunc(names, func(name string) bool { return filepath.Ext(name) == suffix }) {
		t.Errorf("there are %v before the end", names)
	}
	drafts, err := table.Finish()
	if err != nil {
		t.Fatal(err)
	}
	for _, draft := range drafts {
		if err := draft.Place(); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	entries, _ := os.ReadDir(folder)
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if want := slices.Sorted(slices.Values(Formats[format])); !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
	return folder
}

func same(t *testing.T, n int, id, hash, revision string, numbers []float32) {
	t.Helper()
	var got []uint32
	for _, number := range numbers {
		got = append(got, math.Float32bits(number))
	}
	if want := row(n); id != want.ID || hash != want.Hash || revision != "abc" || !slices.Equal(got, bits(n)) {
		t.Fatalf("row %d is %q %q %q %x", n, id, hash, revision, got)
	}
}

// rowCounts are about the sizes of batches and row groups.
var rowCounts = []int{0, 1, rowsAtOnce, rowGroup + 1}

func TestNPY(t *testing.T) {
	for _, rows := range rowCounts {
		folder := written(t, "npy", rows, dimensions)
		content, err := os.ReadFile(filepath.Join(folder, VectorsNPY))
		if err != nil {
			t.Fatal(err)
		}
		header := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }", rows, dimensions)
		if string(content[:8]) != "\x93NUMPY\x01\x00" || binary.LittleEndian.Uint16(content[8:]) != 118 || content[127] != '\n' ||
			string(content[10:10+len(header)]) != header || len(content) != 128+rows*dimensions*4 {
			t.Errorf("%q", content[:128])
		}
		for n := range rows {
			if got := content[128+n*dimensions*4:][:dimensions*4]; string(got) != string(row(n).Vector) {
				t.Fatalf("row %d is %x", n, got)
			}
		}
	}
	ids, err := os.ReadFile(filepath.Join(written(t, "npy", 1, dimensions), IDs))
	if want := fmt.Sprintf(`{"id":"id 0\n\"é\"","content_hash":"%064x"}`+"\n", 0); err != nil || string(ids) != want {
		t.Errorf("got %s, %v", ids, err)
	}
}

func TestArrow(t *testing.T) {
	for _, rows := range rowCounts {
		opened, err := os.Open(filepath.Join(written(t, "arrow", rows, dimensions), VectorsArrow))
		if err != nil {
			t.Fatal(err)
		}
		reader, err := ipc.NewFileReader(opened)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for i := range reader.NumRecords() {
			batch, err := reader.RecordBatch(i)
			if err != nil {
				t.Fatal(err)
			}
			numbers := batch.Column(1).(*array.FixedSizeList).ListValues().(*array.Float32).Values()
			for place := range int(batch.NumRows()) {
				text := func(column int) string { return batch.Column(column).(*array.String).Value(place) }
				same(t, n, text(0), text(2), text(3), numbers[place*dimensions:(place+1)*dimensions])
				n++
			}
		}
		if n != rows || reader.Close() != nil || opened.Close() != nil {
			t.Errorf("%d of %d rows", n, rows)
		}
	}
}

func TestParquet(t *testing.T) {
	for _, rows := range rowCounts {
		reader, err := file.OpenParquetFile(filepath.Join(written(t, "parquet", rows, dimensions), VectorsParquet), false)
		if err != nil {
			t.Fatal(err)
		}
		described := reader.MetaData().Schema
		if described.Column(1).Path() != vectorPath || reader.MetaData().KeyValueMetadata().FindValue("ARROW:schema") == nil {
			t.Errorf("the schema is %v", described)
		}
		n := 0
		for group := range reader.NumRowGroups() {
			count := reader.RowGroup(group).NumRows()
			column := func(place int) file.ColumnChunkReader {
				chunk, err := reader.RowGroup(group).Column(place)
				if err != nil {
					t.Fatal(err)
				}
				return chunk
			}
			texts := func(place int) []parquet.ByteArray {
				values := make([]parquet.ByteArray, count)
				if total, _, err := column(place).(*file.ByteArrayColumnChunkReader).ReadBatch(count, values, nil, nil); err != nil || total != count {
					t.Fatal(total, err)
				}
				return values
			}
			numbers, there, goesOn := make([]float32, count*dimensions), make([]int16, count*dimensions), make([]int16, count*dimensions)
			if _, read, err := column(1).(*file.Float32ColumnChunkReader).ReadBatch(count*dimensions, numbers, there, goesOn); err != nil || read != len(numbers) {
				t.Fatal(read, err)
			}
			ids, hashes, revisions := texts(0), texts(2), texts(3)
			for place := range int(count) {
				if goesOn[place*dimensions] != 0 || slices.Contains(goesOn[place*dimensions+1:(place+1)*dimensions], 0) {
					t.Fatalf("row %d does not begin where it should", n)
				}
				same(t, n, string(ids[place]), string(hashes[place]), string(revisions[place]), numbers[place*dimensions:(place+1)*dimensions])
				n++
			}
		}
		if n != rows || reader.Close() != nil {
			t.Errorf("%d of %d rows", n, rows)
		}
	}
}

// TestNothingButFailures has no vectors, and so no dimensions.
func TestNothingButFailures(t *testing.T) {
	for format := range Formats {
		written(t, format, 0, 0)
	}
}

func TestArrowsSchema(t *testing.T) {
	field := arrowSchema(7).Field(1).Type.(*arrow.FixedSizeListType)
	if field.Len() != 7 || field.Elem().ID() != arrow.FLOAT32 {
		t.Errorf("got %v", field)
	}
}

func TestAFileIsReplacedAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	for _, content := range []string{"one", "two"} {
		draft, err := Create(path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = draft.WriteString("never seen")
		draft.Discard()
		if err := WriteFile(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != content {
			t.Errorf("got %q", got)
		}
	}
}
