package records

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// readAll reads a file of some content to its end, and holds that each record has a text within its bounds or a failure,
// and that an error names the file.
func readAll(t *testing.T, name string, content []byte) (all []Record, err error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	input, err := Open(path, limits)
	if err == nil {
		err = input.Each(t.Context(), func(record Record) bool {
			if (record.Failure == nil) == (record.Text == "") || len(record.Text) > limits.MaxText || record.Line < 1 ||
				!utf8.ValidString(record.Text) || !utf8.ValidString(record.ID) {
				t.Errorf("got %+v", record)
			}
			all = append(all, record)
			return true
		})
	}
	if err != nil && !strings.Contains(err.Error(), path) {
		t.Errorf("%v names no file", err)
	}
	return all, err
}

func quoted(text string) string { return `"` + strings.ReplaceAll(text, `"`, `""`) + `"` }

// FuzzCSV holds beside that that what was read, written as CSV, is read again.
func FuzzCSV(f *testing.F) {
	for _, seed := range []string{
		"id,text\na,one\n", "\ufefftext,more,id\r\n\"two, \"\"quoted\"\"\nlines\",,b\r\n", "id,text\na\n,\n\n\"\",\"\"", "id,text\n\"a", "id,text\na,\"b\"c\n", "text\n",
		"id,text\n\xff,\xff\n", "id,text\n" + strings.Repeat("x", 100), "\"id\",\"te\nxt\"", "id,text,text\n", "\xef\xbb", "id\ttext\n", "id,text\n\r\r\n\"\r\n\",\"\r\"\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		all, _ := readAll(t, "fuzz.csv", content)
		written := []string{"id,text"}
		var good []Record
		for _, record := range all {
			if record.Failure == nil && !strings.Contains(record.ID+record.Text, "\r") { // which CSV does not keep before the end of a line
				good = append(good, record)
				written = append(written, quoted(record.ID)+","+quoted(record.Text))
			}
		}
		again, err := readAll(t, "again.csv", []byte(strings.Join(written, "\n")))
		if err != nil || len(again) != len(good) {
			t.Fatalf("%d records, and, written again, %d, %v", len(good), len(again), err)
		}
		for i := range good {
			if again[i].ID != good[i].ID || again[i].Text != good[i].Text {
				t.Fatalf("%+v, written again, is %+v", good[i], again[i])
			}
		}
	})
}

// FuzzParquet holds beside that that a damaged file takes neither much memory nor much time.
func FuzzParquet(f *testing.F) {
	texts := []string{"one", "", "three", "\xff"}
	content, err := os.ReadFile(written(f, 3, func(row int) *string {
		if row == 1 {
			return nil
		}
		return &texts[row%len(texts)]
	}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Add(content[:len(content)-1])
	for place := 0; place < len(content); place += 4 {
		damaged := bytes.Clone(content)
		damaged[place] ^= 0x55
		f.Add(damaged)
	}
	f.Add([]byte("PAR1PAR1"))
	f.Add([]byte("PAR1\xff\xff\xff\x7fPAR1"))
	f.Fuzz(func(t *testing.T, content []byte) {
		const most, longest = 256 << 20, 5 * time.Second
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		_, _ = readAll(t, "fuzz.parquet", content)
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > most || took > longest {
			t.Errorf("%d bytes of Parquet took %d bytes and %v", len(content), allocated, took)
		}
	})
}
