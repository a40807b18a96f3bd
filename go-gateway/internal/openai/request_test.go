package openai

import (
	stdjson "encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

func TestDecodeEmbeddingsAccepts(t *testing.T) {
	cases := []struct {
		name, body, embed string // embed in Protobuf's JSON
		base64, single    bool
	}{
		{"text", `{"model":"m","input":"a"}`, `{"model":"m","inputs":[{"text":"a"}]}`, false, true},
		{"texts", `{"model":"m","input":["a","b"]}`, `{"model":"m","inputs":[{"text":"a"},{"text":"b"}]}`, false, false},
		{"one text in a list", `{"model":"m","input":["a"]}`, `{"model":"m","inputs":[{"text":"a"}]}`, false, false},
		{"empty text is the hot path's to refuse", `{"model":"m","input":["a",""]}`, `{"model":"m","inputs":[{"text":"a"},{"text":""}]}`, false, false},
		{"empty list is the hot path's to refuse", `{"model":"m","input":[]}`, `{"model":"m"}`, false, false},
		{"ids", `{"model":"m","input":[101,7,102],"tokenizer":"m"}`, `{"model":"m","inputs":[{"token_ids":{"ids":[101,7,102]}}]}`, false, true},
		{"lists of ids", `{"model":"m","input":[[1],[2,3],[]],"tokenizer":"m"}`,
			`{"model":"m","inputs":[{"token_ids":{"ids":[1]}},{"token_ids":{"ids":[2,3]}},{"token_ids":{}}]}`, false, false},
		{"base64", `{"model":"m","input":"a","encoding_format":"base64"}`, `{"model":"m","inputs":[{"text":"a"}]}`, true, true},
		{"float", `{"model":"m","input":"a","encoding_format":"float"}`, `{"model":"m","inputs":[{"text":"a"}]}`, false, true},
		{"null is absent", `{"model":"m","input":"a","encoding_format":null,"dimensions":null,"user":null,"truncate":null,"tokenizer":null}`,
			`{"model":"m","inputs":[{"text":"a"}]}`, false, true},
		{"all fields", `{"user":"u","truncate":true,"dimensions":256,"input":"a","model":"m","tokenizer":"m","encoding_format":"base64"}`,
			`{"model":"m","inputs":[{"text":"a"}],"dimensions":256,"truncate":true}`, true, true},
		{"space round everything", " \t\r\n{ \"model\" : \"m\" , \"input\" : [ \"a\" ] } \n", `{"model":"m","inputs":[{"text":"a"}]}`, false, false},
		{"escapes", `{"model":"m","input":"\u00e9\ud83d\ude00\n\u0000"}`, `{"model":"m","inputs":[{"text":"é😀\n\u0000"}]}`, false, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := plain.Embeddings([]byte(c.body), nil)
			if err != nil {
				t.Fatal(err)
			}
			var want inferencev1.EmbedRequest
			if err := protojson.Unmarshal([]byte(c.embed), &want); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(got.Embed, &want) || got.Base64 != c.base64 || got.SingleInput != c.single {
				t.Errorf("got %v, base64 %v, single %v", got.Embed, got.Base64, got.SingleInput)
			}
		})
	}
}

func TestDecodeEmbeddingsRefuses(t *testing.T) {
	long := strings.Repeat("x", 10_000)
	cases := []struct {
		name, body  string
		reason      fault.Reason
		param, says string
	}{
		{"deep", `{"input":` + strings.Repeat("[", 100_000), fault.InvalidValue, "input[0][0]", "a list"},
		{"no model", `{"input":"a"}`, fault.MissingField, "model", "model"},
		{"null model", `{"model":null,"input":"a"}`, fault.MissingField, "model", ""},
		{"empty model", `{"model":"","input":"a"}`, fault.MissingField, "model", ""},
		{"long model", `{"model":"` + long + `","input":"a"}`, fault.InvalidValue, "model", "10000 bytes"},
		{"no input", `{"model":"m"}`, fault.MissingField, "input", "input"},
		{"null input", `{"model":"m","input":null}`, fault.MissingField, "input", ""},
		{"object input", `{"model":"m","input":{"a":1}}`, fault.InvalidValue, "input", "a string"},
		{"number among texts", `{"model":"m","input":["a",1]}`, fault.InvalidValue, "input[1]", "a string"},
		{"null among texts", `{"model":"m","input":["a",null]}`, fault.InvalidValue, "input[1]", "null"},
		{"list among texts", `{"model":"m","input":["a",[]]}`, fault.InvalidValue, "input[1]", "a list"},
		{"text among ids", `{"model":"m","input":[1,"a"],"tokenizer":"m"}`, fault.InvalidValue, "input[1]", "token id"},
		{"text among lists", `{"model":"m","input":[[1],"a"],"tokenizer":"m"}`, fault.InvalidValue, "input[1]", "list of token ids"},
		{"text in a list of ids", `{"model":"m","input":[[1],[2,"a"]],"tokenizer":"m"}`, fault.InvalidValue, "input[1][1]", "token id"},
		{"fraction", `{"model":"m","input":[1.5],"tokenizer":"m"}`, fault.InvalidValue, "input[0]", "1.5"},
		{"negative id", `{"model":"m","input":[1,-1],"tokenizer":"m"}`, fault.TokenIDOutOfRange, "input[1]", "-1"},
		{"id of 33 bits", `{"model":"m","input":[[4294967296]],"tokenizer":"m"}`, fault.TokenIDOutOfRange, "input[0][0]", "4294967296"},
		{"id of 100 digits", `{"model":"m","input":[1` + strings.Repeat("0", 99) + `],"tokenizer":"m"}`, fault.TokenIDOutOfRange, "input[0]", ""},
		{"whose ids", `{"model":"m","input":[1]}`, fault.TokenizerMismatch, "input", "check_embedding_ctx_length=False"},
		{"whose lists of ids", `{"model":"m","input":[[1]]}`, fault.TokenizerMismatch, "input", `"tokenizer": "m"`},
		{"other's ids", `{"model":"m","input":[1],"tokenizer":"cl100k"}`, fault.TokenizerMismatch, "tokenizer", "cl100k"},
		{"other's tokenizer for text", `{"model":"m","input":"a","tokenizer":"cl100k"}`, fault.TokenizerMismatch, "tokenizer", ""},
		{"format", `{"model":"m","input":"a","encoding_format":"hex"}`, fault.InvalidValue, "encoding_format", "hex"},
		{"format of a wrong type", `{"model":"m","input":"a","encoding_format":1}`, fault.InvalidValue, "encoding_format", "a number"},
		{"dimensions of zero", `{"model":"m","input":"a","dimensions":0}`, fault.InvalidValue, "dimensions", "from 1 to 4294967295"},
		{"negative dimensions", `{"model":"m","input":"a","dimensions":-1}`, fault.InvalidValue, "dimensions", "-1"},
		{"dimensions of 33 bits", `{"model":"m","input":"a","dimensions":4294967296}`, fault.InvalidValue, "dimensions", ""},
		{"fraction of dimensions", `{"model":"m","input":"a","dimensions":1.5}`, fault.InvalidValue, "dimensions", "1.5"},
		{"dimensions as text", `{"model":"m","input":"a","dimensions":"384"}`, fault.InvalidValue, "dimensions", "a string"},
		{"truncate as text", `{"model":"m","input":"a","truncate":"yes"}`, fault.InvalidValue, "truncate", "true or false"},
		{"user as number", `{"model":"m","input":"a","user":1}`, fault.InvalidValue, "user", "a string"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := plain.Embeddings([]byte(c.body), nil)
			got := fault.Of(err)
			if got.Reason != c.reason || got.Param != c.param || !strings.Contains(got.Message, c.says) {
				t.Errorf("got %s, param %q, %q", got.Reason, got.Param, got.Message)
			}
			if len(got.Message) > 400 {
				t.Errorf("the message repeats %d bytes", len(got.Message))
			}
		})
	}
}

func TestDecodeTokenize(t *testing.T) {
	got, err := plain.Tokenize([]byte(`{"model":"m","input":["a","b"]}`), nil)
	if err != nil || !proto.Equal(got.Tokenize, &inferencev1.TokenizeRequest{Model: "m", Texts: []string{"a", "b"}}) || got.SingleInput {
		t.Errorf("got %+v, %v", got, err)
	}
	cases := []struct {
		body   string
		reason fault.Reason
		param  string
	}{
		{`{"input":"a"}`, fault.MissingField, "model"},
		{`{"model":"m"}`, fault.MissingField, "input"},
		{`{"model":"m","input":[1]}`, fault.InvalidValue, "input"},
		{`{"model":"m","input":[[1]]}`, fault.InvalidValue, "input"},
		{`{"model":"m","input":["a",1]}`, fault.InvalidValue, "input[1]"},
		{`{"model":"m","input":"a","truncate":true}`, fault.UnsupportedParameter, "truncate"},
	}
	for _, c := range cases {
		_, err := plain.Tokenize([]byte(c.body), nil)
		if got := fault.Of(err); got.Reason != c.reason || got.Param != c.param {
			t.Errorf("%s: got %v", c.body, got)
		}
	}
}

// TestInputsAreCountedWhileTheyAreRead holds what a body of megabytes may cost before the hot path judges its inputs.
func TestInputsAreCountedWhileTheyAreRead(t *testing.T) {
	decoders := map[string]func(body []byte) error{
		"embeddings": func(body []byte) error { _, err := plain.Embeddings(body, nil); return err },
		"tokenize":   func(body []byte) error { _, err := plain.Tokenize(body, nil); return err },
		"moderation": func(body []byte) error { _, err := plain.Moderation(body, nil); return err },
	}
	for _, c := range []struct{ decoder, before, entry, param string }{
		{"embeddings", `{"model":"m","input":`, `""`, "input"},
		{"embeddings", `{"model":"m","tokenizer":"m","input":`, `[7]`, "input"},
		{"embeddings", `{"model":"m","tokenizer":"m","input":`, `[]`, "input"},
		{"tokenize", `{"model":"m","input":`, `""`, "input"},
		{"moderation", `{"input":`, `""`, "input"},
		{"moderation", `{"input":`, `{"type":"text","text":""}`, "input"},
	} {
		most := c.before + "[" + c.entry + strings.Repeat(","+c.entry, maxInputs-1)
		if err := decoders[c.decoder]([]byte(most + "]}")); err != nil {
			t.Errorf("%s of %s: %v", c.decoder, c.entry, err)
		}
		// What follows is not even read.
		refused := refusal{c.decoder + c.entry, fault.TooManyInputs, c.param, c.param + " has more than 65536 entries"}
		checkRefusal(t, refused, decoders[c.decoder]([]byte(most+","+c.entry+",?")))
	}
}

func TestTokenIDsOfOneInputAreNotCounted(t *testing.T) {
	body := `{"model":"m","tokenizer":"m","input":[7` + strings.Repeat(",7", maxInputs) + `]}`
	got, err := plain.Embeddings([]byte(body), nil)
	if err != nil || len(got.Embed.GetInputs()[0].GetTokenIds().GetIds()) != maxInputs+1 {
		t.Errorf("got %v", err)
	}
}

// TestEntriesAreNotNamed holds that what names an entry in errors is not made without one: it costs more than the
// entry.
func TestEntriesAreNotNamed(t *testing.T) {
	for _, c := range []struct {
		name, entry string
		most        float64 // allocations for each of many entries
	}{
		{"token ids", "7", 0.01},
		{"lists of token ids", "[7]", 4.1}, // its ids, and three messages of the contract
		{"texts", `"a"`, 3.1},              // its characters, and two messages of the contract
	} {
		const entries = 10_000
		body := []byte(`{"model":"m","input":[` + c.entry + strings.Repeat(","+c.entry, entries-1) + `],"tokenizer":"m"}`)
		allocations := testing.AllocsPerRun(10, func() {
			if _, err := plain.Embeddings(body, nil); err != nil {
				t.Fatal(err)
			}
		})
		if allocations > c.most*entries {
			t.Errorf("%s: %.2f allocations for each", c.name, allocations/entries)
		}
	}
}

func TestDecodeTokenizeBoundsItsTexts(t *testing.T) {
	for _, body := range []string{`"abcde"`, `["ab","é","c"]`, `"\u00e9\u00e9c"`} {
		if _, err := plain.Tokenize([]byte(`{"model":"m","input":`+body+`}`), nil); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
	for _, body := range []string{`"abcdef"`, `["ab","é","cd"]`, `"\u00e9\u00e9cd"`} {
		_, err := plain.Tokenize([]byte(`{"model":"m","input":`+body+`}`), nil)
		checkRefusal(t, refusal{body, fault.InputTooLong, "input", "input has 6 bytes of text; at most 5"}, err)
	}
}

// FuzzDecodeEmbeddings holds, for any bytes: no panic; what is refused is the client's fault; what is accepted is JSON
// for encoding/json too, and only valid text reaches the hot path.
func FuzzDecodeEmbeddings(f *testing.F) {
	for _, seed := range []string{
		`{"model":"m","input":"a"}`, `{"model":"m","input":["a","é"],"encoding_format":"base64","dimensions":3}`,
		`{"model":"m","input":[[1,2],[3]],"tokenizer":"m"}`, `{"model":"m","input":[1,2],"tokenizer":"m","truncate":true}`,
		"{\"input\":\"\xff\"}", `{"input":"\ud800"}`, `{"a":`, `[[[[`, `{"input":[1e400]}`, `{"model":"m","input":null}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		request, err := plain.Embeddings(body, nil)
		if err != nil {
			var refused *fault.Fault
			if !errors.As(err, &refused) || table[refused.Reason].status != 400 {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		if !stdjson.Valid(body) {
			t.Fatalf("%q was accepted", body)
		}
		for _, input := range request.Embed.GetInputs() {
			if !utf8.ValidString(input.GetText()) {
				t.Fatalf("%q: invalid text was accepted", body)
			}
		}
	})
}
