package files

import (
	"strings"
	"testing"

	"triptych.dev/gateway/internal/fault"
)

// checked looks at a text in pieces of a size.
func checked(text string, piece int) error {
	checker := &lineChecker{}
	for len(text) > 0 {
		n := min(piece, len(text))
		checker.Write([]byte(text[:n]))
		text = text[n:]
	}
	return checker.end()
}

func TestLines(t *testing.T) {
	deep := strings.Repeat(`{"a":`, maxLineDepth-1) + "[]" + strings.Repeat("}", maxLineDepth-1)
	long := `{"a":"` + strings.Repeat("x", MaxLineBytes-len(`{"a":""}`)) + `"}`
	for name, test := range map[string]struct{ text, want string }{
		"one":                   {`{}`, ""},
		"ended":                 {"{}\n{}\n", ""},
		"of Windows":            {"{}\r\n{}\r\n", ""},
		"deep":                  {deep, ""},
		"brackets in a text":    {`{"a":"` + strings.Repeat("{[", 100) + `\""}`, ""},
		"long":                  {long + "\n{}", ""},
		"as many as may be":     {strings.Repeat("{}\n", MaxLines), ""},
		"nothing":               {"", "it has no line"},
		"an empty line":         {"{}\n\n{}", "line 2 is empty"},
		"a blank line":          {"{}\n{}\n \r\n", "line 3 is empty"},
		"too deep":              {"{}\n" + `{"a":` + deep + "}", "line 2 is nested deeper than 64"},
		"too long":              {"{}\n" + long + " \n", "line 2 is longer than 1048576 bytes"},
		"too long, and not one": {"{}\n" + strings.Repeat("[", 2*MaxLineBytes), "line 2 is longer"},
		"too many":              {strings.Repeat("{}\n", MaxLines+1), "more than 50000 lines"},
		"no object":             {"{}\n[]\n", "line 2 is not one JSON object"},
		"two":                   {"{}{}\n", "line 1 is not one JSON object"},
		"torn":                  {`{"a":1`, "line 1 is not one JSON object"},
		"a field twice":         {`{"a":1,"a":2}`, "line 1 is not one JSON object"},
		"no UTF-8":              {"{}\n{}\n{\"a\":\"\xff\"}", "line 3 is not UTF-8"},
		"half of a surrogate":   {`{"a":"\ud800"}`, "line 1 is not one JSON object"},
		"a byte order mark":     {"\ufeff{}", "line 1 is not one JSON object"},
		"the first fault":       {"{}\nx\ny\n", "line 2"},
	} {
		for _, piece := range []int{1 << 30, 64 << 10, 7} {
			err := checked(test.text, piece)
			if test.want == "" && err == nil {
				continue
			}
			if test.want == "" || err == nil || fault.Of(err).Param != "file" || !strings.Contains(fault.Of(err).Message, test.want) {
				t.Errorf("%s in pieces of %d: %v", name, piece, err)
			}
		}
	}
}

// FuzzLines holds that pieces make no difference, and that what is taken has lines that are objects.
func FuzzLines(f *testing.F) {
	for _, seed := range []string{"", "{}", "{}\n", "{}\r\n{\"a\":[1]}\n", "{}\n\n", "[]", "{\"a\":\"\\\"\"}", "\xff\n{}"} {
		f.Add(seed, 3)
	}
	f.Fuzz(func(t *testing.T, text string, piece int) {
		whole, cut := checked(text, max(1, len(text))), checked(text, max(1, piece))
		if (whole == nil) != (cut == nil) || (whole != nil && fault.Of(whole).Message != fault.Of(cut).Message) {
			t.Fatalf("whole: %v; in pieces: %v", whole, cut)
		}
		if whole != nil {
			return
		}
		for line := range strings.Lines(text) {
			if trimmed := strings.TrimSpace(line); !strings.HasPrefix(trimmed, "{") || !strings.HasSuffix(trimmed, "}") {
				t.Fatalf("%q is taken", line)
			}
		}
	})
}
