// Package records reads texts with their ids from files and folders: JSONL, CSV, Parquet, and folders of text files.
//
// An input of any size is read record by record. What is wrong with a record is a value of that record, and the others are
// read; what is wrong with the input is an error. The package knows nothing of what the texts are for.
package records

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Record is one text, or why there is none.
type Record struct {
	ID      string // empty if it could not be read
	Text    string
	Input   string // the input's name, as it was given
	Line    int64  // from 1: its line (that on which it begins), row or place among the files
	Read    int64  // bytes of the input that have been read up to its end, about
	Failure *Failure
}

// Failure is why a record has no text. It is the record's alone.
type Failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func failure(code, format string, arguments ...any) *Failure {
	return &Failure{code, fmt.Sprintf(format, arguments...)}
}

// Options say how inputs are read.
type Options struct {
	Text string // the field or column of the text
	ID   string // that of the id; empty: an id is the line's number, after the input's name where there are several
	// MaxText bounds a text, and MaxLine a line of JSON or a row of CSV, in bytes.
	MaxText, MaxLine int
}

// Input can be read as often as wanted.
type Input interface {
	// Size is about how many bytes there are to read, on the scale of Record.Read.
	Size() int64
	// Each hands records to yield until there are no more, or it returns false. The error names the input.
	Each(ctx context.Context, yield func(Record) bool) error
	// OwnIDs reports whether ids are read from the input. Otherwise they are unique.
	OwnIDs() bool
}

// Open looks at an input: it is there, it is of a known kind, it has the columns.
func Open(path string, options Options) (Input, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return openFolder(path, options)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file and no folder: it must be one that can be read more than once", path)
	}
	file := file{path: path, size: info.Size(), options: options}
	switch kind := strings.ToLower(filepath.Ext(path)); kind {
	case ".jsonl", ".ndjson":
		return &jsonl{file}, nil
	case ".csv":
		return openCSV(file, ',')
	case ".tsv":
		return openCSV(file, '\t')
	case ".parquet":
		return openParquet(file)
	default:
		return nil, fmt.Errorf("%s: what is read are .jsonl, .ndjson, .csv, .tsv, .parquet, and folders of text files", path)
	}
}

// file is what the kinds of files have in common.
type file struct {
	path    string
	size    int64
	options Options
}

func (f *file) Size() int64  { return f.size }
func (f *file) OwnIDs() bool { return f.options.ID != "" }

// record has the id that it gets where none is read.
func (f *file) record(line, read int64) Record {
	record := Record{Input: f.path, Line: line, Read: read}
	if f.options.ID == "" {
		record.ID = strconv.FormatInt(line, 10)
	}
	return record
}

func (f *file) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", f.path, err)
}

// check finds what is wrong with a text that was read.
func (r *Record) check(options *Options) {
	switch {
	case r.Failure != nil:
	case r.Text == "":
		r.Failure = failure("empty_text", "the text is empty")
	case len(r.Text) > options.MaxText:
		r.Failure = failure("text_too_long", "the text has %d bytes, and %d are allowed (--max-text-bytes)", len(r.Text), options.MaxText)
	case !utf8.ValidString(r.Text):
		r.Failure = failure("invalid_utf8", "the text is not UTF-8")
	case !utf8.ValidString(r.ID):
		r.Failure = failure("invalid_utf8", "the id is not UTF-8")
	}
	if r.Failure != nil {
		r.Text, r.ID = "", strings.ToValidUTF8(r.ID, "\ufffd")
	}
}

// byteOrderMark is what some programs put in front of UTF-8.
const byteOrderMark = "\ufeff"
