package openai

import (
	"strings"
	"testing"

	"triptych.dev/gateway/internal/fault"
)

// plain is a Decoder without aliases.
var plain = &Decoder{ModerationModel: "preset", MaxTokenizeBytes: 5}

func TestAliasesAreOtherNamesOfModels(t *testing.T) {
	d := &Decoder{Aliases: map[string]string{"gpt": "m", "omni": "judge"}, ModerationModel: "omni", MaxTokenizeBytes: 5}
	for _, body := range []string{`{"model":"omni","input":"a"}`, `{"input":"a"}`} {
		if judged, err := d.Moderation([]byte(body), nil); err != nil || judged.Classify.GetModel() != "judge" {
			t.Errorf("got %v, %v", judged, err)
		}
	}
	// Ids are of the tokenizer that the model has, whatever it is called.
	if got, err := d.Embeddings([]byte(`{"model":"gpt","input":[1],"tokenizer":"m"}`), nil); err != nil || got.Embed.GetModel() != "m" {
		t.Errorf("got %v, %v", got, err)
	}
	_, err := d.Embeddings([]byte(`{"model":"gpt","input":[1],"tokenizer":"gpt"}`), nil)
	checkRefusal(t, refusal{"", fault.TokenizerMismatch, "tokenizer", `"gpt"; the ids must be those of the model "m"`}, err)
}

// refusal is what is wrong with a request.
type refusal struct {
	body        string
	reason      fault.Reason
	param, says string
}

func checkRefusal(t *testing.T, c refusal, err error) {
	t.Helper()
	got := fault.Of(err)
	if err == nil || got.Reason != c.reason || got.Param != c.param || !strings.Contains(got.Message, c.says) || len(got.Message) > 400 {
		t.Errorf("%.200s\ngot %s, param %q, %q", c.body, got.Reason, got.Param, got.Message)
	}
}
