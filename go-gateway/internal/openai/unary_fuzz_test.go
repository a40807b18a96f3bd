package openai

import (
	stdjson "encoding/json"
	"errors"
	"slices"
	"testing"
	"unicode/utf8"

	"triptych.dev/gateway/internal/fault"
)

// checkDecoded holds: what is refused is the client's fault; what is accepted is JSON for encoding/json too, and only
// valid text reaches the hot path.
func checkDecoded(t *testing.T, body []byte, err error, texts func() []string) {
	t.Helper()
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
	for _, text := range texts() {
		if !utf8.ValidString(text) {
			t.Fatalf("%q: invalid text was accepted", body)
		}
	}
}

func FuzzDecodeModeration(f *testing.F) {
	for _, seed := range []string{
		`{"input":"a"}`, `{"input":["a","b"],"model":"m"}`, `{"input":[{"type":"text","text":"a"}]}`,
		`{"input":[{"type":"image_url"}]}`, "{\"input\":\"\xff\"}", `{"input":["\ud800"]}`, `{"input":`, `{"input":[{}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		request, err := plain.Moderation(body, nil)
		checkDecoded(t, body, err, func() []string { return request.Classify.GetTexts() })
		if err == nil { // what a job counts, and people are shown, is what the model was asked
			if texts, again := plain.ModerationTexts(body); again != nil || !slices.Equal(texts, request.Classify.GetTexts()) {
				t.Errorf("%q, %v", texts, again)
			}
		}
	})
}

func FuzzDecodeTokenize(f *testing.F) {
	for _, seed := range []string{
		`{"model":"m","input":"a"}`, `{"model":"m","input":["a","é"]}`, `{"model":"m","input":[]}`, `{"model":"m","input":[1]}`,
		"{\"model\":\"m\",\"input\":\"\xff\"}", `{"model":"m","input":"\ud800"}`, `{"model":`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		request, err := plain.Tokenize(body, nil)
		checkDecoded(t, body, err, func() []string { return request.Tokenize.GetTexts() })
	})
}
