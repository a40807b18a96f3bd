package batch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"triptych.dev/gateway/internal/fault"

	"triptych.dev/gateway/internal/files"
)

const endpoint = "/v1/embeddings"

// lineWith is a good line with another text in the place of a part of it.
func lineWith(part, other string) string {
	return strings.Replace(`{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"m","input":"x"}}`, part, other, 1)
}

func TestWhatIsWrongWithALineIsSaid(t *testing.T) {
	for text, want := range map[string]string{
		lineWith("", ""):                 "",
		`[1]`:                            "one JSON object",
		`null`:                           "one JSON object",
		`{"custom_id":"a"`:               "one JSON object",
		lineWith(`{`, `{"url":"x",`):     "each field once",
		lineWith(`"custom_id":"a",`, ``): `"custom_id" is required`,
		lineWith(`"a"`, `""`):            "not empty",
		lineWith(`"a"`, `7`):             "must be a string",
		lineWith(`"a"`, `"`+strings.Repeat("a", 513)+`"`): "at most 512",
		lineWith(`POST`, `GET`):                           `method must be "POST"`,
		lineWith(`/v1/embeddings`, `/v1/moderations`):     `url must be the batch's endpoint, "/v1/embeddings"`,
		lineWith(`{"model":"m","input":"x"}`, `"x"`):      "body must be an object",
		lineWith(`}}`, `},"more":1}`):                     `"more" is not known`,
	} {
		found, wrong := parseLine([]byte(text), endpoint)
		if (want == "") != (wrong == "") || !strings.Contains(wrong, want) {
			t.Errorf("%s: %q, not %q", text, wrong, want)
		}
		if strings.Contains(text, `"custom_id":"a"`) && strings.HasSuffix(text, "}") && !strings.Contains(wrong, "JSON") && found.CustomID != "a" {
			t.Errorf("%s: custom_id %q", text, found.CustomID)
		}
	}
}

func TestAFileIsCutIntoSegments(t *testing.T) {
	var text bytes.Buffer
	for i := range 1200 {
		fmt.Fprintln(&text, lineWith(`"a"`, fmt.Sprintf(`"%d"`, i%1100)))
	}
	large := strings.Repeat("x", 600<<10)
	fmt.Fprintln(&text, lineWith(`"a"`, `"large 1"`)[:20]+large) // is no JSON
	fmt.Fprint(&text, lineWith(`"x"`, `"`+large+`"`))
	plan, err := cut(t.Context(), bytes.NewReader(text.Bytes()), endpoint)
	if err != nil || plan.lines != 1202 || plan.bytes != int64(text.Len()) || plan.model != "m" {
		t.Fatalf("%+v, %v", plan, err)
	}
	lines, at := int64(0), int64(0)
	for _, segment := range plan.segments {
		if segment.N != lines || segment.At != at || segment.Lines > segmentLines || (segment.Length > segmentBytes && segment.Lines > 1) {
			t.Errorf("%+v", segment)
		}
		lines, at = lines+segment.Lines, at+segment.Length
	}
	if lines != plan.lines || at != plan.bytes || len(plan.segments) != 4 {
		t.Errorf("%d segments have %d lines of %d bytes", len(plan.segments), lines, at)
	}
	if duplicates := plan.segments[2].Duplicates; len(duplicates) != 100 || duplicates[0] != 1100 {
		t.Errorf("duplicates %v", duplicates)
	}
	whole := plan.segments[1]
	first, others := divide(whole, 200, text.Bytes()[whole.At:])
	if first.Lines != 200 || others.Lines != 312 || others.N != 712 || others.At != first.At+first.Length || first.Length+others.Length != whole.Length {
		t.Errorf("%+v, %+v", first, others)
	}
}

func TestWhatIsNoBatchIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "no line",
		strings.Repeat("\n", files.MaxLines+1): "more than 50000 lines",
		strings.Repeat("x", 2<<20) + "\n":      "longer than 1048576 bytes",
	} {
		_, err := cut(t.Context(), strings.NewReader(text), endpoint)
		if found := fault.Of(err); err == nil || found.Param != "input_file_id" || !strings.Contains(found.Message, want) {
			t.Errorf("%v, not %q", err, want)
		}
	}
	several := lineWith("", "") + "\n" + lineWith(`"m"`, `"n"`)
	if plan, err := cut(t.Context(), strings.NewReader(several), endpoint); err != nil || plan.model != "" {
		t.Errorf("%+v, %v", plan, err)
	}
}

// Whatever a line is, it is served or said to be wrong, and comes out as one line of JSON.
func FuzzLine(f *testing.F) {
	for _, seed := range []string{lineWith("", ""), `{}`, `[`, lineWith(`"a"`, `"\ud800"`), lineWith(`"a"`, "\"\xff\""), lineWith(`}}`, `},"x":1}`)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		found, wrong := parseLine(text, endpoint)
		if wrong == "" && (found.CustomID == "" || !json.Valid(found.Body)) {
			t.Fatalf("%q was taken: %+v", text, found)
		}
		out, err := render(result{id: "batch_req_1", customID: found.CustomID, wrong: wrong, reply: Reply{Status: 200, Body: []byte(`{}`)}})
		if err != nil || bytes.Count(out, []byte{'\n'}) != 1 || !json.Valid(out) {
			t.Fatalf("%q came out as %q, %v", text, out, err)
		}
		_ = ModelOf(found.Body)
	})
}
