package output

import (
	"fmt"
	"path/filepath"

	"github.com/go-json-experiment/json"
)

// Row is one of the result.
type Row struct {
	ID     string
	Hash   string // of the content: SHA-256 in hexadecimal digits
	Vector []byte // little-endian float32
}

// Table takes rows and becomes files.
type Table interface {
	Add(Row) error
	// Finish ends what is written. The drafts take their places together, as far as a file system knows of that.
	Finish() ([]*Draft, error)
	Discard()
}

// npy is NumPy's format for the vectors, beside a line of JSON for each.
type npy struct {
	vectors, ids *Draft
	dimensions   int
	rows         int64
}

// The names of the files.
const (
	VectorsNPY     = "vectors.npy"
	IDs            = "ids.jsonl"
	VectorsArrow   = "vectors.arrow"
	VectorsParquet = "vectors.parquet"
)

func newNPY(folder string, dimensions int) (Table, error) {
	vectors, err := Create(filepath.Join(folder, VectorsNPY))
	if err != nil {
		return nil, err
	}
	ids, err := Create(filepath.Join(folder, IDs))
	if err != nil {
		vectors.Discard()
		return nil, err
	}
	n := &npy{vectors: vectors, ids: ids, dimensions: dimensions}
	if _, err := vectors.WriteString(npyHeader(0, dimensions)); err != nil {
		n.Discard()
		return nil, err
	}
	return n, nil
}

// npyHeader has the same length for any number of rows.
func npyHeader(rows int64, dimensions int) string {
	const size = 128 // with everything in front of the numbers
	text := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }", rows, dimensions)
	return fmt.Sprintf("\x93NUMPY\x01\x00%c\x00%-*s\n", size-10, size-11, text)
}

type idLine struct {
	ID   string `json:"id"`
	Hash string `json:"content_hash"`
}

func (n *npy) Add(row Row) error {
	if _, err := n.vectors.Write(row.Vector); err != nil {
		return err
	}
	line, err := json.Marshal(idLine{row.ID, row.Hash})
	if err != nil {
		return err
	}
	n.rows++
	_, err = n.ids.Write(append(line, '\n'))
	return err
}

func (n *npy) Finish() ([]*Draft, error) {
	if err := n.vectors.Flush(); err != nil {
		return nil, err
	}
	if _, err := n.vectors.file.WriteAt([]byte(npyHeader(n.rows, n.dimensions)), 0); err != nil {
		return nil, err
	}
	if err := n.vectors.Finish(); err != nil {
		return nil, err
	}
	return []*Draft{n.vectors, n.ids}, n.ids.Finish()
}

func (n *npy) Discard() {
	n.vectors.Discard()
	n.ids.Discard()
}
