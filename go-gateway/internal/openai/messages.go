package openai

import (
	"math"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

// messages is the field of that name: a conversation.
type messages struct {
	present bool
	list    []*inferencev1.Message
}

// roles are OpenAI's names. "developer" is its newer one for "system".
var roles = map[string]inferencev1.Role{
	"system":    inferencev1.Role_ROLE_SYSTEM,
	"developer": inferencev1.Role_ROLE_SYSTEM,
	"user":      inferencev1.Role_ROLE_USER,
	"assistant": inferencev1.Role_ROLE_ASSISTANT,
}

func (m *messages) read(decoder *jsontext.Decoder, name string) error {
	m.present = true
	return readList(decoder, name, "a list of messages", math.MaxInt, func(i int) error {
		message, err := readMessage(decoder, element(name, i))
		m.list = append(m.list, message)
		return err
	})
}

func readMessage(decoder *jsontext.Decoder, name string) (*inferencev1.Message, error) {
	var role, content *string
	parsed := false
	err := object(map[string]readField{
		"role": text(&role),
		"content": func(decoder *jsontext.Decoder, name string) error {
			said, err := readContent(decoder, name)
			content = &said
			return err
		},
		// OpenAI's SDK adds it to a reply when it parses one, and sends it back: content says the same.
		"parsed": func(decoder *jsontext.Decoder, _ string) error {
			parsed = true
			return decoder.SkipValue()
		},
		// A reply that is sent back has these, as null or empty.
		"refusal": unsupported, "audio": unsupported, "function_call": unsupported,
		"annotations": only("Messages are text alone here.", "[]"), "tool_calls": only(noTools, "[]"),
	})(decoder, name)
	switch {
	case err != nil:
		return nil, err
	case role == nil:
		return nil, missing(name + ".role")
	case content == nil:
		return nil, missing(name + ".content")
	}
	who, known := roles[*role]
	if !known {
		return nil, fault.InField(fault.InvalidValue, name+".role",
			"%s.role must be \"system\", \"developer\", \"user\" or \"assistant\", not %q.", name, clip(*role))
	}
	if parsed && who != inferencev1.Role_ROLE_ASSISTANT {
		return nil, unsupported(decoder, name+".parsed")
	}
	return &inferencev1.Message{Role: who, Content: *content}, nil
}

// readContent reads a text, or a list of text parts, which become lines of one text.
func readContent(decoder *jsontext.Decoder, name string) (string, error) {
	if decoder.PeekKind() == jsontext.KindString {
		return readString(decoder, name, "a string")
	}
	var parts []string
	err := readList(decoder, name, "a string or a list of text parts", math.MaxInt, func(i int) error {
		part, err := readPart(decoder, element(name, i))
		parts = append(parts, part)
		return err
	})
	return joinParts(parts), err
}

func joinParts(parts []string) string { return strings.Join(parts, "\n") }

// readPart reads one part of a content. Only text is taken; what else there is, is refused alike in whatever order its
// fields come.
func readPart(decoder *jsontext.Decoder, name string) (string, error) {
	var kind, said *string
	onlyText := func(found string) error {
		return fault.InField(fault.InvalidValue, name, "%s must have the type \"text\", not %q: only text is taken here.", name, clip(found))
	}
	other := func(_ *jsontext.Decoder, field string) error { return onlyText(strings.TrimPrefix(field, name+".")) }
	err := object(map[string]readField{
		"type": text(&kind), "text": text(&said),
		"image_url": other, "input_audio": other, "file": other, "refusal": other,
	})(decoder, name)
	switch {
	case err != nil:
		return "", err
	case kind == nil:
		return "", missing(name + ".type")
	case *kind != "text":
		return "", onlyText(*kind)
	case said == nil:
		return "", missing(name + ".text")
	default:
		return *said, nil
	}
}
