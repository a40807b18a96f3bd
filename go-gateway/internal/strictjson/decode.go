// Package strictjson reads JSON from outside, field by field: what is not known is refused, and every refusal names the
// field, what it must be, and what it was.
//
// It is strict as RFC 7493 is: no invalid UTF-8, no half of a surrogate pair, no name twice. encoding/json would
// replace or drop these silently. It knows no API: which fields there are is the caller's table. It must not depend on
// HTTP or the contract.
package strictjson

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
)

// Field reads one field's value. name is the field's, for errors.
type Field func(decoder *Decoder, name string) error

// Fields are the known fields of one object.
type Fields map[string]Field

// byteOrderMark begins what some editors and shells write as UTF-8.
var byteOrderMark = []byte("\xef\xbb\xbf")

// Decode reads body, which must be one JSON object, field by field. A field that is null counts as absent; those that are
// not in fields are refused together or, where ignored is not nil, skipped and named there. Errors are *fault.Fault.
func Decode(body []byte, fields Fields, ignored *Names) error {
	body = bytes.TrimPrefix(body, byteOrderMark)
	decoder := &Decoder{Decoder: jsontext.NewDecoder(bytes.NewBuffer(body))}
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
	refused := decoder.unsupported
	if ignored == nil {
		refused = refused.and(decoder.unknown)
	} else {
		*ignored = decoder.unknown
	}
	return cmp.Or(refused.refusal(), err)
}

func readWhole(decoder *Decoder, fields Fields) error {
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
func readFields(decoder *Decoder, prefix string, fields Fields) error {
	return Members(decoder, func(key string) error {
		name := prefix + key
		read, known := fields[key]
		if !known {
			decoder.unknown.add(prefix+Clip(key), len(Clip(key)))
			return decoder.SkipValue()
		}
		if decoder.PeekKind() == jsontext.KindNull {
			return decoder.SkipValue()
		}
		return read(decoder, name)
	})
}

// Members reads one object and leaves each value to read.
func Members(decoder *Decoder, read func(key string) error) error {
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

// Missing refuses an object without a field that it needs.
func Missing(name string) *fault.Fault {
	return fault.InField(fault.MissingField, name, "The field %q is required.", name)
}

// Quoting marks the fault of a field whose name ends with the client's own text.
func Quoting(text string, err error) error {
	if found, ok := errors.AsType[*fault.Fault](err); ok && strings.HasSuffix(found.Param, text) {
		found.Quoted = len(text)
	}
	return err
}

// Object reads an object of known fields.
func Object(fields Fields) Field {
	return func(decoder *Decoder, name string) error {
		if err := ExpectKind(decoder, jsontext.KindBeginObject, name, "an object"); err != nil {
			return err
		}
		return readFields(decoder, name+".", fields)
	}
}

// syntaxFault tells text that is not Unicode from text that is not JSON: the former is what a lenient reader accepts.
func syntaxFault(body []byte, syntax *jsontext.SyntacticError) error {
	param := paramOf(syntax.JSONPointer) // of any names
	if errors.Is(syntax, jsontext.ErrDuplicateName) {
		return Quoting(param, fault.InField(fault.InvalidJSON, param, "The body names the field %q twice.", param))
	}
	if jsontext.Value(body).IsValid(jsontext.AllowInvalidUTF8(true)) {
		return Quoting(param, fault.InField(fault.InvalidUTF8, param,
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
		param.WriteString(Clip(token))
	}
	return param.String()
}
