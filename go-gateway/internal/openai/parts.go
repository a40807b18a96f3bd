package openai

import (
	"strings"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/strictjson"
)

func joinParts(parts []string) string { return strings.Join(parts, "\n") }

// partReader reads parts of a content, one after the other. Only text is taken; what else there is, is refused alike in
// whatever order its fields come.
type partReader struct {
	fields     strictjson.Field
	name       string
	kind, text *string
}

func newPartReader() *partReader {
	p := &partReader{}
	other := func(_ *strictjson.Decoder, field string) error {
		return p.onlyText(strings.TrimPrefix(field, p.name+"."))
	}
	p.fields = strictjson.Object(strictjson.Fields{
		"type": strictjson.String(&p.kind), "text": strictjson.String(&p.text),
		"image_url": other, "input_audio": other, "file": other, "refusal": other,
	})
	return p
}

func (p *partReader) onlyText(found string) error {
	return fault.InField(fault.InvalidValue, p.name,
		"%s must have the type \"text\", not %q: only text is taken here.", p.name, strictjson.Clip(found))
}

func (p *partReader) read(decoder *strictjson.Decoder, name string) (string, error) {
	p.name, p.kind, p.text = name, nil, nil
	err := p.fields(decoder, name)
	switch {
	case err != nil:
		return "", err
	case p.kind == nil:
		return "", strictjson.Missing(name + ".type")
	case *p.kind != "text":
		return "", p.onlyText(*p.kind)
	case p.text == nil:
		return "", strictjson.Missing(name + ".text")
	default:
		return *p.text, nil
	}
}
