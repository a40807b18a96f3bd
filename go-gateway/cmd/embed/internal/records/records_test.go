package records

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

var limits = Options{Text: "text", ID: "id", MaxText: 20, MaxLine: 60}

// all is what an input has, a line a record: id, text, line, code of the failure.
func all(t *testing.T, input Input) (got []string) {
	t.Helper()
	for range 2 { // an input can be read again
		got = nil
		last := int64(0)
		err := input.Each(t.Context(), func(record Record) bool {
			code := ""
			if record.Failure != nil {
				if code = record.Failure.Code; record.Text != "" {
					t.Errorf("%+v has a text and a failure", record)
				}
			}
			if record.Read < last {
				t.Errorf("%d bytes are read, and %d were before", record.Read, last)
			}
			last = record.Read
			got = append(got, fmt.Sprintf("%s|%s|%d|%s", record.ID, record.Text, record.Line, code))
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		if last > input.Size() {
			t.Errorf("%d bytes are read of %d", last, input.Size())
		}
	}
	return got
}

func open(t *testing.T, name, content string, options Options) Input {
	t.Helper()
	input, err := Open(write(t, name, content), options)
	if err != nil {
		t.Fatal(err)
	}
	return input
}

func write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestJSONL(t *testing.T) {
	content := "\ufeff" + strings.Join([]string{
		`{"id": "a", "text": "one", "more": {"text": ["deep"]}}`,
		``,
		`{"text": "\u00e9\n", "id": 7}`,
		`{"id": "c", "text": ""}`,
		`{"id": "d"}`,
		`{"text": "x"}`,
		`{"id": "e", "text": 3}`,
		`{"id": [], "text": "x"}`,
		`["a"]`,
		`{"id": "f", "text": "x"} {}`,
		`{"id": "g", "text": "x", "text": "y"}`,
		`{"id": "h", "text": "\ud800"}`,
		"{\"id\": \"i\", \"text\": \"\xff\"}",
		`{"id": "j", "text": "` + strings.Repeat("x", 21) + `"}`,
		`{"id": "k", "text": "` + strings.Repeat("x", 60) + `"}`,
		`{"id": "l", "text": "last"}` + "\r",
		`{"id": "m", "te`,
	}, "\n")
	expect(t, all(t, open(t, "a.jsonl", content, limits)),
		"a|one|1|", "7|é\n|3|", "c||4|empty_text", "d||5|missing_text", "||6|missing_id", "e||7|not_a_string", "||8|not_an_id",
		"||9|invalid_json", "f||10|invalid_json", "g||11|invalid_json", "h||12|invalid_json", "i||13|invalid_json", "j||14|text_too_long",
		"||15|line_too_long", "l|last|16|", "m||17|invalid_json")
	expect(t, all(t, open(t, "a.ndjson", "{\"text\":\"a\"}\n{\"text\":\"b\"}\n", Options{Text: "text", MaxText: 9, MaxLine: 99})), "1|a|1|", "2|b|2|")
	expect(t, all(t, open(t, "a.jsonl", "", limits)))
}

// TestALineOfAnyLengthIsNotHeld reads one that is far longer than it may be.
func TestALineOfAnyLengthIsNotHeld(t *testing.T) {
	const size = 256 << 20
	path := write(t, "long.jsonl", `{"id":"a","text":"one"}`+"\n")
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, _ := file.Stat()
	if err := file.Truncate(info.Size() + size); err != nil { // of zeros, which take no room
		t.Fatal(err)
	}
	if _, err := file.WriteString("\n" + `{"id":"b","text":"two"}`); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	input, err := Open(path, limits)
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got := all(t, input)
	runtime.ReadMemStats(&after)
	expect(t, got, "a|one|1|", "||2|line_too_long", "b|two|3|")
	if took := after.TotalAlloc - before.TotalAlloc; took > size/16 {
		t.Errorf("reading it twice took %d bytes", took)
	}
}

func TestCSV(t *testing.T) {
	content := "\ufeffid,more,text\r\na,,one\r\nb,,\"two, \"\"quoted\"\"\nlines\"\r\nc,,\nd,short\ne,," + strings.Repeat("x", 21) + "\nf,,\xff\ng,,seven"
	want := []string{"a|one|2|", "b|two, \"quoted\"\nlines|3|", "c||5|empty_text", "||6|wrong_columns", "e||7|text_too_long", "f||8|invalid_utf8", "g|seven|9|"}
	expect(t, all(t, open(t, "a.csv", content, limits)), want...)
	expect(t, all(t, open(t, "a.tsv", "text\tid\na, b\t1\n", limits)), "1|a, b|2|")
	for content, message := range map[string]string{
		"":                    "is empty",
		"a,b\n":               `there is no column "text"; there are: a, b`,
		"text,id,text\n":      `two columns "text"`,
		"text,name\nx,y\n":    `there is no column "id"`,
		"text,id\n\"a\"b,1\n": "line 2",
		"text,id\n\"" + strings.Repeat("long ", 100_000) + "\",1\n": "--max-line-bytes",
	} {
		input, err := Open(write(t, "bad.csv", content), limits)
		if err == nil {
			err = input.Each(t.Context(), func(Record) bool { return true })
		}
		if err == nil || !strings.Contains(err.Error(), message) || !strings.Contains(err.Error(), "bad.csv") {
			t.Errorf("%.40q: got %v", content, err)
		}
	}
}

func TestFolder(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "docs")
	for name, content := range map[string]string{
		"docs/b.txt": "two", "docs/a/z.md": "one", "docs/.git/config": "hidden", "docs/.hidden": "hidden", "docs/empty": "",
		"docs/binary": "\x00\xff", "docs/long": strings.Repeat("x", 21), "outside": "secret",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"out": "../outside", "absolute": filepath.Join(root, "outside"), "in": "b.txt", "loop": "."} {
		if err := os.Symlink(target, filepath.Join(path, name)); err != nil {
			t.Fatal(err)
		}
	}
	input, err := Open(path, limits)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, all(t, input), "a/z.md|one|1|", "absolute||2|unreadable", "b.txt|two|3|", "binary||4|invalid_utf8", "empty||5|empty_text",
		"in|two|6|", "long||7|text_too_long", "out||9|unreadable")
}

func TestWhatIsNoInput(t *testing.T) {
	for _, path := range []string{write(t, "a.pdf", "x"), "/dev/null", filepath.Join(t.TempDir(), "nothing.jsonl"), write(t, "a.parquet", "PAR1 is no Parquet PAR1")} {
		if _, err := Open(path, limits); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

func TestReadingEndsWhenItIsTold(t *testing.T) {
	input := open(t, "a.jsonl", strings.Repeat("{\"id\":\"a\",\"text\":\"x\"}\n", 10), limits)
	ctx, cancel := context.WithCancel(t.Context())
	seen := 0
	if err := input.Each(ctx, func(Record) bool { seen++; cancel(); return true }); err != nil || seen != 1 {
		t.Errorf("%d records, %v", seen, err)
	}
}

func FuzzJSONL(f *testing.F) {
	f.Add([]byte("{\"id\":\"a\",\"text\":\"one\"}\n\n{\"text\":\"\\u0000\",\"id\":1e9}\r\nnull\n[[[["))
	f.Add([]byte("\xef\xbb\xbf{\"text\":\"a\",\"id\":\"b\"}"))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "fuzz.jsonl")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		input, err := Open(path, limits)
		if err != nil {
			t.Fatal(err)
		}
		lines := int64(strings.Count(string(content), "\n") + 1)
		if err := input.Each(t.Context(), func(record Record) bool {
			if (record.Failure == nil) == (record.Text == "") || len(record.Text) > limits.MaxText || record.Line > lines {
				t.Errorf("got %+v", record)
			}
			return true
		}); err != nil {
			t.Error(err)
		}
	})
}
