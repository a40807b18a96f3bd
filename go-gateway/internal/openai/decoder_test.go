package openai

import (
	"testing"

	"triptych.dev/gateway/internal/fault"
)

// plain is a Decoder without aliases.
var plain = &Decoder{ModerationModel: "preset", MaxTokenizeBytes: 5}

func TestAliasesAreOtherNamesOfModels(t *testing.T) {
	d := &Decoder{Aliases: map[string]string{"gpt": "m", "omni": "judge"}, ModerationModel: "omni", MaxTokenizeBytes: 5}
	chat, err := d.Chat([]byte(`{"model":"gpt","messages":[{"role":"user","content":"a"}]}`), nil)
	if err != nil || chat.Generate.GetModel() != "m" {
		t.Errorf("got %v, %v", chat, err)
	}
	for _, body := range []string{`{"model":"omni","input":"a"}`, `{"input":"a"}`} {
		if judged, err := d.Moderation([]byte(body), nil); err != nil || judged.Classify.GetModel() != "judge" {
			t.Errorf("got %v, %v", judged, err)
		}
	}
	// Ids are of the tokenizer that the model has, whatever it is called.
	if got, err := d.Embeddings([]byte(`{"model":"gpt","input":[1],"tokenizer":"m"}`), nil); err != nil || got.Embed.GetModel() != "m" {
		t.Errorf("got %v, %v", got, err)
	}
	_, err = d.Embeddings([]byte(`{"model":"gpt","input":[1],"tokenizer":"gpt"}`), nil)
	checkRefusal(t, refusal{"", fault.TokenizerMismatch, "tokenizer", `"gpt"; the ids must be those of the model "m"`}, err)
}
