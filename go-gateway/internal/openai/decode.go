package openai

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
)

// readField reads one field's value. name is the field's, for errors.
type readField func(decoder *jsontext.Decoder, name string) error

// readObject reads body, which must be one JSON object, field by field. A field that is null counts as absent; one that
// is not in fields is refused.
//
// The reader is strict (RFC 7493): no invalid UTF-8, no half of a surrogate pair, no name twice. encoding/json would
// replace or drop these silently.
func readObject(body []byte, fields map[string]readField) error {
	decoder := jsontext.NewDecoder(bytes.NewBuffer(body))
	if kind := decoder.PeekKind(); kind != jsontext.KindBeginObject && kind != jsontext.KindInvalid {
		return fault.New(fault.InvalidJSON, "The body must be one JSON object, not %s.", describe(kind))
	}
	err := readWhole(decoder, fields)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.New(fault.InvalidJSON, "The body ends after %d bytes, before its JSON object does.", len(body))
	}
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return syntaxFault(body, syntax)
	}
	return err
}

func readWhole(decoder *jsontext.Decoder, fields map[string]readField) error {
	if err := readFields(decoder, "", fields); err != nil {
		return err
	}
	end := decoder.InputOffset()
	if _, err := decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return fault.New(fault.InvalidJSON, "Something follows the body's JSON object, which ends at byte %d.", end)
	}
	return nil
}

// readFields reads one object. prefix is what stands before its fields' names in errors, as in "stream_options.".
func readFields(decoder *jsontext.Decoder, prefix string, fields map[string]readField) error {
	return readMembers(decoder, func(key string) error {
		name := prefix + key
		read, known := fields[key]
		if !known {
			return quoting(clip(key), unsupported(decoder, prefix+clip(key)))
		}
		if decoder.PeekKind() == jsontext.KindNull {
			return decoder.SkipValue()
		}
		return read(decoder, name)
	})
}

// readMembers reads one object and leaves each value to read.
func readMembers(decoder *jsontext.Decoder, read func(key string) error) error {
	if _, err := decoder.ReadToken(); err != nil { // {
		return err
	}
	for decoder.PeekKind() != jsontext.KindEndObject {
		token, err := decoder.ReadToken()
		if err != nil {
			return err
		}
		if err := read(token.String()); err != nil {
			return err
		}
	}
	_, err := decoder.ReadToken() // }
	return err
}

// unsupported refuses a field. It need not be in a table of fields, unless null is to count as absent.
func unsupported(_ *jsontext.Decoder, name string) error {
	return fault.InField(fault.UnsupportedParameter, name,
		"The field %q is not supported here; nothing is ignored silently.", name)
}

// quoting marks the fault of a field whose name ends with the client's own text.
func quoting(text string, err error) error {
	if found, ok := errors.AsType[*fault.Fault](err); ok && strings.HasSuffix(found.Param, text) {
		found.Quoted = len(text)
	}
	return err
}

// object reads an object of known fields.
func object(fields map[string]readField) readField {
	return func(decoder *jsontext.Decoder, name string) error {
		if err := expectKind(decoder, jsontext.KindBeginObject, name, "an object"); err != nil {
			return err
		}
		return readFields(decoder, name+".", fields)
	}
}

// syntaxFault tells text that is not Unicode from text that is not JSON: the former is what a lenient reader accepts.
func syntaxFault(body []byte, syntax *jsontext.SyntacticError) error {
	param := paramOf(syntax.JSONPointer) // of any names
	if errors.Is(syntax, jsontext.ErrDuplicateName) {
		return quoting(param, fault.InField(fault.InvalidJSON, param, "The body names the field %q twice.", param))
	}
	if jsontext.Value(body).IsValid(jsontext.AllowInvalidUTF8(true)) {
		return quoting(param, fault.InField(fault.InvalidUTF8, param,
			"The text at byte %d of the body is not valid UTF-8, or is half of a surrogate pair.", syntax.ByteOffset))
	}
	return fault.New(fault.InvalidJSON, "The body is not valid JSON: the error is at byte %d.", syntax.ByteOffset)
}

// paramOf turns a JSON pointer as in "/input/1" into OpenAI's form "input[1]".
func paramOf(pointer jsontext.Pointer) string {
	var param strings.Builder
	for token := range pointer.Tokens() {
		if _, err := strconv.ParseUint(token, 10, 32); err == nil && param.Len() > 0 {
			fmt.Fprintf(&param, "[%s]", token)
			continue
		}
		if param.Len() > 0 {
			param.WriteByte('.')
		}
		param.WriteString(clip(token))
	}
	return param.String()
}

// text reads a string into destination, which stays nil while the field is absent.
func text(destination **string) readField {
	return func(decoder *jsontext.Decoder, name string) error {
		value, err := readString(decoder, name, "a string")
		if err != nil {
			return err
		}
		*destination = &value
		return nil
	}
}

// boolean reads true or false.
func boolean(destination *bool) readField {
	return func(decoder *jsontext.Decoder, name string) error {
		token, err := decoder.ReadToken()
		if err != nil {
			return err
		}
		switch token.Kind() {
		case jsontext.KindTrue, jsontext.KindFalse:
			*destination = token.Bool()
			return nil
		default:
			return wrongType(name, "true or false", token.Kind())
		}
	}
}

// positive reads a whole number from 1 to 2³² − 1.
func positive(destination *uint32) readField {
	return whole(1, math.MaxUint32, func(value uint32) { *destination = value })
}

// readString reads a string; param, wanted and index are as in readKind.
func readString(decoder *jsontext.Decoder, param, wanted string, index ...int) (string, error) {
	token, err := readKind(decoder, jsontext.KindString, param, wanted, index...)
	if err != nil {
		return "", err
	}
	return token.String(), nil
}

// readKind reads one token, which must be of a kind. index says which element of param it is, if it is one: lists are long,
// so only an error spells an element's name.
func readKind(decoder *jsontext.Decoder, kind jsontext.Kind, param, wanted string, index ...int) (jsontext.Token, error) {
	if err := expectKind(decoder, kind, param, wanted, index...); err != nil {
		return jsontext.Token{}, err
	}
	return decoder.ReadToken()
}

// expectKind refuses a value of another kind. One that is no JSON is left to the decoder.
func expectKind(decoder *jsontext.Decoder, kind jsontext.Kind, param, wanted string, index ...int) error {
	if found := decoder.PeekKind(); found != kind && found != jsontext.KindInvalid {
		return wrongType(element(param, index...), wanted, found)
	}
	return nil
}

// element is what an element of a list is called; without an index it is the field itself.
func element(name string, index ...int) string {
	for _, i := range index {
		name += "[" + strconv.Itoa(i) + "]"
	}
	return name
}

func wrongType(param, wanted string, found jsontext.Kind) *fault.Fault {
	return fault.InField(fault.InvalidValue, param, "%s must be %s, not %s.", param, wanted, describe(found))
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

// longestEcho bounds what an error repeats of a request, which may be megabytes.
const longestEcho = 64 // bytes

func clip(s string) string {
	if len(s) <= longestEcho {
		return s
	}
	return strings.ToValidUTF8(s[:longestEcho], "") + "…"
}
