package openai

import (
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
)

// readList reads a list of at most so many elements and leaves each to read.
func readList(decoder *jsontext.Decoder, name, wanted string, most int, read func(i int) error) error {
	if _, err := readKind(decoder, jsontext.KindBeginArray, name, wanted); err != nil {
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

func parseTokenID(text string) (uint32, error) {
	id, err := strconv.ParseUint(text, 10, 32)
	return uint32(id), err
}

// only takes a field whose value, one of those given as JSON, asks for what is done anyway. Any other is refused.
func only(why string, values ...string) readField {
	return func(decoder *jsontext.Decoder, name string) error {
		value, err := decoder.ReadValue()
		if err != nil {
			return err
		}
		compact := value.Clone() // the decoder's own may not be changed
		if err := compact.Compact(); err != nil {
			return err
		}
		if !slices.Contains(values, string(compact)) {
			return fault.InField(fault.UnsupportedParameter, name, "%s must be absent or %s. %s", name, strings.Join(values, " or "), why)
		}
		return nil
	}
}

// labels reads an object of strings: marks of a caller's own, accepted and not used.
func labels(decoder *jsontext.Decoder, name string) error {
	if err := expectKind(decoder, jsontext.KindBeginObject, name, "an object of strings"); err != nil {
		return err
	}
	return readMembers(decoder, func(key string) error {
		_, err := readKind(decoder, jsontext.KindString, name+"."+clip(key), "a string")
		return quoting(clip(key), err)
	})
}
