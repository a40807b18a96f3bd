package strictjson

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
)

// decode reads the fields that the cases below have.
func decode(body string) error { return decodeIgnoring(body, nil) }

func decodeIgnoring(body string, ignored *Names) error {
	var model, input *string
	var n uint32
	return Decode([]byte(body), Fields{
		"model": String(&model), "n": Positive(&n),
		"input": func(decoder *Decoder, name string) error {
			if decoder.PeekKind() == jsontext.KindString {
				return String(&input)(decoder, name)
			}
			return List(decoder, name, "a string or a list of strings", 2, func(i int) error {
				_, err := ReadString(decoder, name, "a string", i)
				return err
			})
		},
		"ratio": NumberAbove(0, 1, func(float32) {}),
		"seed":  Bits64(func(uint64) {}),
		"store": AcceptOnly("Nothing is stored.", "false"),
		"inner": Object(Fields{"flag": Bool(new(bool))}),
		"old":   Unsupported,
		"items": func(decoder *Decoder, name string) error {
			return List(decoder, name, "a list", 99, func(i int) error {
				return Object(Fields{"flag": Bool(new(bool))})(decoder, Element(name, i))
			})
		},
	}, ignored)
}

func TestDecodeAccepts(t *testing.T) {
	for _, body := range []string{
		"{}", " \t\r\n{ \"model\" : \"m\" } \n", `{"model":null,"n":null,"inner":null}`, `{"input":["a","é"],"n":4294967295,"ratio":1,"store":false}`,
		`{"seed":-1}`, `{"seed":18446744073709551615}`, `{"inner":{"flag":true}}`, `{"inner":{}}`, `{"old":null}`,
		"\xef\xbb\xbf{\"model\":\"m\"}", `{"n":16.0,"seed":1e3}`, `{"n":4294967295.0}`,
	} {
		if err := decode(body); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	long := strings.Repeat("x", 10_000)
	for _, c := range []struct {
		name, body  string
		reason      fault.Reason
		param, says string
	}{
		{"nothing", ``, fault.InvalidJSON, "", "0 bytes"},
		{"half", `{"model":"m",`, fault.InvalidJSON, "", "13 bytes"},
		{"no JSON", `{model:"m"}`, fault.InvalidJSON, "", "byte 1"},
		{"list", `[]`, fault.InvalidJSON, "", "a list"},
		{"text", `"a"`, fault.InvalidJSON, "", "a string"},
		{"null", `null`, fault.InvalidJSON, "", "null"},
		{"two objects", `{"model":"m","input":"a"}{}`, fault.InvalidJSON, "", "byte 25"},
		{"junk after", `{"model":"m","input":"a"} x`, fault.InvalidJSON, "", ""},
		{"field twice", `{"model":"m","model":"m"}`, fault.InvalidJSON, "model", `"model" twice`},
		{"trailing comma", `{"model":"m","input":"a",}`, fault.InvalidJSON, "", ""},
		{"raw bytes", "{\"model\":\"m\",\"input\":[\"a\",\"\xff\"]}", fault.InvalidUTF8, "input[1]", "UTF-8"},
		{"half a pair", `{"model":"m","input":"\ud83d"}`, fault.InvalidUTF8, "input", "surrogate"},
		{"half a pair in a list", `{"model":"m","input":["a","\udc00"]}`, fault.InvalidUTF8, "input[1]", "surrogate"},
		{"half a pair in a name", `{"\ud83d":1}`, fault.InvalidUTF8, "", ""},
		{"bad UTF-8 in broken JSON", "{\"input\":\"\xff\",", fault.InvalidJSON, "", ""},
		{"unknown field", `{"model":"m","input":"a","temperature":1}`, fault.UnsupportedParameter, "temperature", "temperature"},
		{"long unknown field", `{"` + long + `":1}`, fault.UnsupportedParameter, long[:64] + "…", ""},
		{"too many", `{"input":["a","b","c"`, fault.InvalidValue, "input", "more than 2 entries"},
		{"another kind", `{"input":["a",1]}`, fault.InvalidValue, "input[1]", "a string, not a number"},
		{"below", `{"ratio":0}`, fault.InvalidValue, "ratio", "above 0, and at most 1"},
		{"beyond", `{"n":4294967296}`, fault.InvalidValue, "n", "4294967296"},
		{"beyond as a float", `{"n":4.294967296e9}`, fault.InvalidValue, "n", "from 1 to 4294967295, not 4.294967296e9"},
		{"a fraction", `{"n":1.5}`, fault.InvalidValue, "n", "1.5"},
		{"endless", `{"n":1e999}`, fault.InvalidValue, "n", "1e999"},
		{"two marks", "\xef\xbb\xbf\xef\xbb\xbf{}", fault.InvalidJSON, "", "byte 0"},
		{"all unknown ones", `{"a":[1],"items":[{"x":1},{"flag":true},{"y":{"z":null}}],"n":1,"old":1,"b":2}`, fault.UnsupportedParameter,
			"old", `fields "old", "a", "items[0].x", "items[2].y", "b" are`},
		{"unknown ones before what is wrong", `{"a":1,"n":0,"b":1}`, fault.UnsupportedParameter, "a", `"a"`},
		{"unknown ones of half a body", `{"a":1,"n":`, fault.InvalidJSON, "", "11 bytes"},
		{"65 bits", `{"seed":18446744073709551616}`, fault.InvalidValue, "seed", "64 bits"},
		{"another value", `{"store": true}`, fault.UnsupportedParameter, "store", "absent or false. Nothing is stored."},
		{"inner", `{"inner":{"flag":1}}`, fault.InvalidValue, "inner.flag", "true or false"},
		{"unknown inner", `{"inner":{"other":1}}`, fault.UnsupportedParameter, "inner.other", "other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := fault.Of(decode(c.body))
			if got.Reason != c.reason || got.Param != c.param || !strings.Contains(got.Message, c.says) || len(got.Message) > 400 {
				t.Errorf("got %s, param %q, %q", got.Reason, got.Param, got.Message)
			}
		})
	}
}

// What a client calls a field is not for the log.
func TestUnknownFieldsAreManyAndBounded(t *testing.T) {
	body := `{"model":"m"`
	for i := range 1000 {
		body += fmt.Sprintf(`,"field%d":{"deep":[%d]}`, i, i)
	}
	got := fault.Of(decode(body + "}"))
	if !strings.Contains(got.Message, `"field15" and 984 more are not supported`) || got.Param != "field0" {
		t.Errorf("got %q, param %q", got.Message, got.Param)
	}
}

func TestUnknownFieldsCanBeIgnored(t *testing.T) {
	var ignored Names
	if err := decodeIgnoring(`{"a":1,"items":[{"x":1,"flag":true}],"n":1,"inner":{"b":2}}`, &ignored); err != nil {
		t.Fatal(err)
	}
	if got := ignored.String(); got != `"a", "items[0].x", "inner.b"` {
		t.Errorf("ignored %s", got)
	}
	// What is known, and not done here, would be missed.
	if got := fault.Of(decodeIgnoring(`{"a":1,"old":1}`, &ignored)); got.Reason != fault.UnsupportedParameter || got.Param != "old" {
		t.Errorf("got %v", got)
	}
	if got := fault.Of(decodeIgnoring(`{"a":1,"n":0}`, &ignored)); got.Param != "n" {
		t.Errorf("got %v", got)
	}
}

func TestNamesOfTheClientAreQuoted(t *testing.T) {
	for body, want := range map[string]string{`{"secret":1}`: "", `{"secret":1,"other":2}`: "", `{"old":1,"secret":1}`: "old", `{"inner":{"secret":1}}`: "inner", `{"n":"secret"}`: "n"} {
		if got := fault.Of(decode(body)).LogParam(); got != want {
			t.Errorf("%s: %q is logged", body, got)
		}
	}
}
