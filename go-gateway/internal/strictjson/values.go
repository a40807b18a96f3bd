package strictjson

import (
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
)

// String reads a string into destination, which stays nil while the field is absent.
func String(destination **string) Field {
	return func(decoder *Decoder, name string) error {
		value, err := ReadString(decoder, name, "a string")
		if err != nil {
			return err
		}
		*destination = &value
		return nil
	}
}

// Bool reads true or false.
func Bool(destination *bool) Field {
	return func(decoder *Decoder, name string) error {
		token, err := decoder.ReadToken()
		if err != nil {
			return err
		}
		switch token.Kind() {
		case jsontext.KindTrue, jsontext.KindFalse:
			*destination = token.Bool()
			return nil
		default:
			return WrongType(name, "true or false", token.Kind())
		}
	}
}

// AcceptOnly takes a field whose value, one of those given as JSON, asks for what is done anyway. Any other is refused.
func AcceptOnly(why string, values ...string) Field {
	return func(decoder *Decoder, name string) error {
		value, err := decoder.ReadValue()
		if err != nil {
			return err
		}
		compact := value.Clone() // the decoder's own may not be changed
		if err := compact.Compact(); err != nil {
			return err
		}
		if !slices.Contains(values, string(compact)) {
			return fault.InField(fault.UnsupportedParameter, name,
				"%s must be absent or %s. %s", name, strings.Join(values, " or "), why)
		}
		return nil
	}
}

// List reads a list of at most so many elements and leaves each to read.
func List(decoder *Decoder, name, expected string, most int, read func(i int) error) error {
	if _, err := ReadKind(decoder, jsontext.KindBeginArray, name, expected); err != nil {
		return err
	}
	for i := 0; decoder.PeekKind() != jsontext.KindEndArray; i++ {
		if i == most {
			return fault.InField(fault.InvalidValue, name, "%s has more than %d entries.", name, most)
		}
		if err := read(i); err != nil {
			return err
		}
	}
	_, err := decoder.ReadToken() // ]
	return err
}

// ReadString reads a string; param, expected and index are as in ReadKind.
func ReadString(decoder *Decoder, param, expected string, index ...int) (string, error) {
	token, err := ReadKind(decoder, jsontext.KindString, param, expected, index...)
	if err != nil {
		return "", err
	}
	return token.String(), nil
}

// ReadKind reads one token, which must be of a kind. index says which element of param it is, if it is one: lists are
// long, so only an error spells an element's name.
func ReadKind(decoder *Decoder, kind jsontext.Kind, param, expected string, index ...int) (jsontext.Token, error) {
	if err := ExpectKind(decoder, kind, param, expected, index...); err != nil {
		return jsontext.Token{}, err
	}
	return decoder.ReadToken()
}

// ExpectKind refuses a value of another kind. One that is no JSON is left to the decoder.
func ExpectKind(decoder *Decoder, kind jsontext.Kind, param, expected string, index ...int) error {
	if found := decoder.PeekKind(); found != kind && found != jsontext.KindInvalid {
		return WrongType(Element(param, index...), expected, found)
	}
	return nil
}

// Element is what an element of a list is called; without an index it is the field itself.
func Element(name string, index ...int) string {
	for _, i := range index {
		name += "[" + strconv.Itoa(i) + "]"
	}
	return name
}

// WrongType refuses a value of another type.
func WrongType(param, expected string, found jsontext.Kind) *fault.Fault {
	return fault.InField(fault.InvalidValue, param, "%s must be %s, not %s.", param, expected, describe(found))
}

func describe(kind jsontext.Kind) string {
	switch kind {
	case jsontext.KindBeginObject:
		return "an object"
	case jsontext.KindBeginArray:
		return "a list"
	case jsontext.KindString:
		return "a string"
	case jsontext.KindNumber:
		return "a number"
	case jsontext.KindTrue, jsontext.KindFalse:
		return "a boolean"
	case jsontext.KindNull:
		return "null"
	default:
		return "something that is not JSON"
	}
}

// maxEchoBytes bounds what an error repeats of a request, which may be megabytes.
const maxEchoBytes = 64 // bytes

// Clip shortens what an error repeats.
func Clip(s string) string {
	if len(s) <= maxEchoBytes {
		return s
	}
	return strings.ToValidUTF8(s[:maxEchoBytes], "") + "…"
}
