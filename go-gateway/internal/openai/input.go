package openai

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
)

// input is the field of that name: text, texts, token ids, or lists of token ids.
type input struct {
	present bool
	single  bool // one text or one list of ids, rather than a list of inputs
	texts   []string
	ids     [][]uint32 // token ids of each input; only one of texts and ids has elements
}

const inputForms = "a string, a list of strings, a list of token ids or a list of lists of token ids"

// read reads any form of the field.
func (in *input) read(decoder *jsontext.Decoder, name string) error {
	in.present = true
	switch kind := decoder.PeekKind(); kind {
	case jsontext.KindString:
		in.single = true
		return in.readText(decoder, name)
	case jsontext.KindBeginArray:
		return in.readList(decoder, name)
	default:
		_, err := readKind(decoder, jsontext.KindString, name, inputForms)
		return err
	}
}

// readTexts reads the forms that are text.
func (in *input) readTexts(decoder *jsontext.Decoder, name string) error {
	if err := in.read(decoder, name); err != nil {
		return err
	}
	if in.ids != nil {
		return fault.InField(fault.InvalidValue, name, "%s must be a string or a list of strings, not token ids.", name)
	}
	return nil
}

func (in *input) readText(decoder *jsontext.Decoder, param string) error {
	token, err := readKind(decoder, jsontext.KindString, param, "a string")
	if err != nil {
		return err
	}
	in.texts = append(in.texts, token.String())
	return nil
}

// readList reads a list whose first element decides what all of them are.
func (in *input) readList(decoder *jsontext.Decoder, name string) error {
	if _, err := decoder.ReadToken(); err != nil { // [
		return err
	}
	kind := decoder.PeekKind()
	if kind == jsontext.KindNumber {
		in.single = true
		return in.readIDs(decoder, name)
	}
	for i := 0; decoder.PeekKind() != jsontext.KindEndArray; i++ {
		param := element(name, i)
		var err error
		switch kind {
		case jsontext.KindBeginArray:
			if _, err = readKind(decoder, kind, param, "a list of token ids"); err == nil {
				err = in.readIDs(decoder, param)
			}
		default:
			err = in.readText(decoder, param)
		}
		if err != nil {
			return err
		}
	}
	_, err := decoder.ReadToken() // ]
	return err
}

// readIDs reads the rest of one list of token ids.
func (in *input) readIDs(decoder *jsontext.Decoder, param string) error {
	ids := []uint32{}
	for decoder.PeekKind() != jsontext.KindEndArray {
		token, err := readKind(decoder, jsontext.KindNumber, element(param, len(ids)), "a token id")
		if err != nil {
			return err
		}
		id, err := token.Int()
		if errors.Is(err, strconv.ErrSyntax) {
			return fault.InField(fault.InvalidValue, element(param, len(ids)),
				"%s must be a token id, a whole number, not %s.", element(param, len(ids)), clip(token.String()))
		}
		if err != nil || id < 0 || id > math.MaxUint32 {
			return fault.InField(fault.TokenIDOutOfRange, element(param, len(ids)),
				"%s is %s, which is no token id of any vocabulary.", element(param, len(ids)), clip(token.String()))
		}
		ids = append(ids, uint32(id))
	}
	in.ids = append(in.ids, ids)
	_, err := decoder.ReadToken() // ]
	return err
}

func element(name string, index int) string {
	return fmt.Sprintf("%s[%d]", name, index)
}
