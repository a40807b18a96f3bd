package openai

import (
	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/strictjson"
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

func (m *messages) read(decoder *strictjson.Decoder, name string) error {
	m.present = true
	reader := newMessageReader()
	return strictjson.List(decoder, name, "a list of messages", maxInputs, func(i int) error {
		message, err := reader.read(decoder, strictjson.Element(name, i))
		m.list = append(m.list, message)
		return err
	})
}

// messageReader reads messages, one after the other: its table is made once, since there may be thousands of them.
type messageReader struct {
	fields               strictjson.Field
	role, content, label *string
	parsed               bool
}

func newMessageReader() *messageReader {
	m := &messageReader{}
	parts := newPartReader()
	m.fields = strictjson.Object(strictjson.Fields{
		"role": strictjson.String(&m.role),
		"content": func(decoder *strictjson.Decoder, name string) error {
			text, err := readContent(decoder, name, parts)
			m.content = &text
			return err
		},
		// A mark of the caller's own: templates of models here do not show it.
		"name": strictjson.String(&m.label),
		// OpenAI's SDK adds it to a reply when it parses one, and sends it back: content says the same.
		"parsed": func(decoder *strictjson.Decoder, _ string) error {
			m.parsed = true
			return decoder.SkipValue()
		},
		// A reply that is sent back has these, as null or empty.
		"refusal": strictjson.Unsupported, "audio": strictjson.Unsupported, "function_call": strictjson.Unsupported,
		"annotations": strictjson.AcceptOnly("Messages are text alone here.", "[]"),
		"tool_calls":  strictjson.AcceptOnly(noTools, "[]"),
		// Clients that show what a model thought send it back, also where it thought nothing.
		"reasoning_content": strictjson.AcceptOnly("No model here reasons before it answers.", `""`),
	})
	return m
}

func (m *messageReader) read(decoder *strictjson.Decoder, name string) (*inferencev1.Message, error) {
	m.role, m.content, m.parsed = nil, nil, false
	err := m.fields(decoder, name)
	switch {
	case err != nil:
		return nil, err
	case m.role == nil:
		return nil, strictjson.Missing(name + ".role")
	case m.content == nil:
		return nil, strictjson.Missing(name + ".content")
	}
	role, known := roles[*m.role]
	if !known {
		return nil, fault.InField(fault.InvalidValue, name+".role",
			"%s.role must be \"system\", \"developer\", \"user\" or \"assistant\", not %q.", name, strictjson.Clip(*m.role))
	}
	if m.parsed && role != inferencev1.Role_ROLE_ASSISTANT {
		decoder.Refuse(name + ".parsed")
	}
	return &inferencev1.Message{Role: role, Content: *m.content}, nil
}

// readContent reads a text, or a list of text parts, which become lines of one text.
func readContent(decoder *strictjson.Decoder, name string, part *partReader) (string, error) {
	if decoder.PeekKind() == jsontext.KindString {
		return strictjson.ReadString(decoder, name, "a string")
	}
	var parts []string
	err := strictjson.List(decoder, name, "a string or a list of text parts", maxInputs, func(i int) error {
		text, err := part.read(decoder, strictjson.Element(name, i))
		parts = append(parts, text)
		return err
	})
	return joinParts(parts), err
}
