package output

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// Formats are what a result may be written as, with the files that each has.
var Formats = map[string][]string{
	"npy":     {VectorsNPY, IDs},
	"arrow":   {VectorsArrow},
	"parquet": {VectorsParquet},
}

// New begins a result in a folder. The revision is a column where there are columns.
func New(format, folder string, dimensions int, revision string) (Table, error) {
	switch format {
	case "npy":
		return newNPY(folder, dimensions)
	case "arrow":
		return newArrow(folder, dimensions, revision)
	case "parquet":
		return newParquet(folder, dimensions, revision)
	default:
		return nil, fmt.Errorf("the format %q is not known", format)
	}
}

// The columns. They are written by hand in Parquet: the library's way from one format to the other brings half of gRPC along.
const (
	idColumn, vectorColumn, hashColumn, revisionColumn = "id", "vector", "content_hash", "revision"

	rowsAtOnce = 1024 // of a batch in Arrow
	rowGroup   = 4096 // of a row group in Parquet, which is held until it is whole
)

func arrowSchema(dimensions int) *arrow.Schema {
	// Where there is no vector, nobody knows their length, and 0 is none.
	vector := arrow.FixedSizeListOfField(int32(max(dimensions, 1)), arrow.Field{Name: "element", Type: arrow.PrimitiveTypes.Float32})
	return arrow.NewSchema([]arrow.Field{
		{Name: idColumn, Type: arrow.BinaryTypes.String}, {Name: vectorColumn, Type: vector},
		{Name: hashColumn, Type: arrow.BinaryTypes.String}, {Name: revisionColumn, Type: arrow.BinaryTypes.String},
	}, nil)
}

func floats(vector []byte, numbers []float32) []float32 {
	for ; len(vector) >= 4; vector = vector[4:] {
		numbers = append(numbers, math.Float32frombits(binary.LittleEndian.Uint32(vector)))
	}
	return numbers
}

// arrowFile is Arrow's format for files.
type arrowFile struct {
	draft    *Draft
	writer   *ipc.FileWriter
	rows     *array.RecordBuilder
	revision string
	numbers  []float32
}

func newArrow(folder string, dimensions int, revision string) (Table, error) {
	draft, err := Create(filepath.Join(folder, VectorsArrow))
	if err != nil {
		return nil, err
	}
	described := arrowSchema(dimensions)
	writer, err := ipc.NewFileWriter(draft, ipc.WithSchema(described))
	if err != nil {
		draft.Discard()
		return nil, err
	}
	return &arrowFile{draft: draft, writer: writer, rows: array.NewRecordBuilder(memory.DefaultAllocator, described), revision: revision}, nil
}

func (a *arrowFile) Add(row Row) error {
	a.numbers = floats(row.Vector, a.numbers[:0])
	a.rows.Field(0).(*array.StringBuilder).Append(row.ID)
	vectors := a.rows.Field(1).(*array.FixedSizeListBuilder)
	vectors.Append(true)
	vectors.ValueBuilder().(*array.Float32Builder).AppendValues(a.numbers, nil)
	a.rows.Field(2).(*array.StringBuilder).Append(row.Hash)
	a.rows.Field(3).(*array.StringBuilder).Append(a.revision)
	if a.rows.Field(0).Len() < rowsAtOnce {
		return nil
	}
	return a.write()
}

func (a *arrowFile) write() error {
	batch := a.rows.NewRecordBatch()
	defer batch.Release()
	return a.writer.Write(batch)
}

func (a *arrowFile) Finish() ([]*Draft, error) {
	if a.rows.Field(0).Len() > 0 {
		if err := a.write(); err != nil {
			return nil, err
		}
	}
	if err := a.writer.Close(); err != nil {
		return nil, err
	}
	return []*Draft{a.draft}, a.draft.Finish()
}

func (a *arrowFile) Discard() { a.draft.Discard() }

// parquetFile is Parquet's, whose metadata tell Arrow that the lists are of a fixed size.
type parquetFile struct {
	draft      *Draft
	writer     *file.Writer
	dimensions int
	revision   string

	// Of the row group that is being filled.
	ids, hashes []parquet.ByteArray
	numbers     []float32
}

func newParquet(folder string, dimensions int, revision string) (_ Table, err error) {
	draft, err := Create(filepath.Join(folder, VectorsParquet))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			draft.Discard()
		}
	}()
	root, err := parquetSchema()
	if err != nil {
		return nil, err
	}
	var described bytes.Buffer
	if err := ipc.NewWriter(&described, ipc.WithSchema(arrowSchema(dimensions))).Close(); err != nil {
		return nil, err
	}
	kept := metadata.NewKeyValueMetadata()
	if err := kept.Append("ARROW:schema", base64.StdEncoding.EncodeToString(described.Bytes())); err != nil {
		return nil, err
	}
	properties := parquet.NewWriterProperties(
		parquet.WithDictionaryDefault(false), parquet.WithDictionaryFor(revisionColumn, true),
		parquet.WithCompression(compress.Codecs.Snappy), parquet.WithCompressionFor(vectorPath, compress.Codecs.Uncompressed),
		parquet.WithStatsFor(vectorPath, false),
	)
	writer, err := file.NewParquetWriterWithError(draft, root, file.WithWriterProps(properties), file.WithWriteMetadata(kept))
	if err != nil {
		return nil, err
	}
	return &parquetFile{draft: draft, writer: writer, dimensions: dimensions, revision: revision}, nil
}

const vectorPath = vectorColumn + ".list.element"

func parquetSchema() (*schema.GroupNode, error) {
	required := parquet.Repetitions.Required
	text := func(name string) (schema.Node, error) {
		return schema.NewPrimitiveNodeLogical(name, required, schema.StringLogicalType{}, parquet.Types.ByteArray, -1, -1)
	}
	id, err1 := text(idColumn)
	element, err2 := schema.NewPrimitiveNode("element", required, parquet.Types.Float, -1, -1)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	vector, err3 := schema.ListOfWithName(vectorColumn, element, required, -1)
	hash, err4 := text(hashColumn)
	revision, err5 := text(revisionColumn)
	if err := errors.Join(err3, err4, err5); err != nil {
		return nil, err
	}
	return schema.NewGroupNode("schema", required, schema.FieldList{id, vector, hash, revision}, -1)
}

func (p *parquetFile) Add(row Row) error {
	p.ids = append(p.ids, parquet.ByteArray(row.ID))
	p.hashes = append(p.hashes, parquet.ByteArray(row.Hash))
	p.numbers = floats(row.Vector, p.numbers)
	if len(p.ids) < rowGroup {
		return nil
	}
	return p.write()
}

func (p *parquetFile) write() error {
	group, err := p.writer.AppendRowGroupChecked()
	if err != nil {
		return err
	}
	revisions := make([]parquet.ByteArray, len(p.ids))
	for i := range revisions {
		revisions[i] = parquet.ByteArray(p.revision)
	}
	for _, texts := range [][]parquet.ByteArray{p.ids, nil, p.hashes, revisions} {
		column, err := group.NextColumn()
		if err != nil {
			return err
		}
		switch writer := column.(type) {
		case *file.ByteArrayColumnChunkWriter:
			_, err = writer.WriteBatch(texts, nil, nil)
		case *file.Float32ColumnChunkWriter:
			err = p.writeVectors(writer)
		}
		if err := errors.Join(err, column.Close()); err != nil {
			return err
		}
	}
	p.ids, p.hashes, p.numbers = p.ids[:0], p.hashes[:0], p.numbers[:0]
	return group.Close()
}

func (p *parquetFile) writeVectors(writer *file.Float32ColumnChunkWriter) error {
	// Every number is there (level 1); each but the first of a vector goes on with its list (level 1).
	there, goesOn := make([]int16, len(p.numbers)), make([]int16, len(p.numbers))
	for i := range p.numbers {
		there[i] = 1
		if i%p.dimensions > 0 {
			goesOn[i] = 1
		}
	}
	_, err := writer.WriteBatch(p.numbers, there, goesOn)
	return err
}

func (p *parquetFile) Finish() ([]*Draft, error) {
	if len(p.ids) > 0 {
		if err := p.write(); err != nil {
			return nil, err
		}
	}
	// The writer closes what it writes to, if that can be closed; a draft cannot.
	if err := p.writer.Close(); err != nil {
		return nil, err
	}
	return []*Draft{p.draft}, p.draft.Finish()
}

func (p *parquetFile) Discard() { p.draft.Discard() }

var _ io.Writer = (*Draft)(nil)
