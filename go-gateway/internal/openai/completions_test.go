package openai

import (
	"strings"
	"testing"

	"triptych.dev/gateway/internal/fault"
)

func TestAliasesAreOtherNamesOfChatModels(t *testing.T) {
	d := &Decoder{Aliases: map[string]string{"gpt": "m"}}
	chat, err := d.Chat([]byte(`{"model":"gpt","messages":[{"role":"user","content":"a"}]}`), nil)
	if err != nil || chat.Generate.GetModel() != "m" {
		t.Errorf("got %v, %v", chat, err)
	}
}

// TestPromptsAreCountedWhileTheyAreRead holds what a body of megabytes may cost.
func TestPromptsAreCountedWhileTheyAreRead(t *testing.T) {
	for _, c := range []struct{ before, entry string }{
		{`{"model":"m","prompt":`, `""`},
		{`{"model":"m","tokenizer":"m","prompt":`, `[7]`},
	} {
		most := c.before + "[" + c.entry + strings.Repeat(","+c.entry, maxInputs-1)
		_, err := plain.Completion([]byte(most+"]}"), nil) // more than one request may have
		checkRefusal(t, refusal{c.entry, fault.TooManyInputs, "prompt", "65536 entries"}, err)
		_, err = plain.Completion([]byte(most+","+c.entry+",?"), nil) // what follows is not even read
		checkRefusal(t, refusal{c.entry, fault.TooManyInputs, "prompt", "prompt has more than 65536 entries"}, err)
	}
}
