package openai

import (
	"errors"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/strictjson"
)

// input is the field of that name: text, texts, token ids, or lists of token ids.
type input struct {
	present bool
	single  bool // one text or one list of ids, rather than a list of inputs
	texts   []string
	ids     [][]uint32 // token ids of each input; only one of texts and ids has elements
}

// maxInputs bounds what the entries of a list cost before the hot path is asked, whose own limit can be set and is
// lower.
const maxInputs = 65_536

func tooManyInputs(name string) *fault.Fault {
	return fault.InField(fault.TooManyInputs, name, "%s has more than %d entries.", name, maxInputs)
}

const inputForms = "a string, a list of strings, a list of token ids or a list of lists of token ids"

// read reads any form of the field.
func (in *input) read(decoder *strictjson.Decoder, name string) error {
	in.present = true
	switch kind := decoder.PeekKind(); kind {
	case jsontext.KindString:
		in.single = true
		return in.readText(decoder, name)
	case jsontext.KindBeginArray:
		return in.readList(decoder, name)
	default:
		_, err := strictjson.ReadKind(decoder, jsontext.KindString, name, inputForms)
		return err
	}
}

// readTexts reads the forms that are text.
func (in *input) readTexts(decoder *strictjson.Decoder, name string) error {
	if err := in.read(decoder, name); err != nil {
		return err
	}
	if in.ids != nil {
		return fault.InField(fault.InvalidValue, name, "%s must be a string or a list of strings, not token ids.", name)
	}
	return nil
}

func (in *input) readText(decoder *strictjson.Decoder, name string, index ...int) error {
	text, err := strictjson.ReadString(decoder, name, "a string", index...)
	in.texts = append(in.texts, text)
	return err
}

// readList reads a list whose first element decides what all of them are.
func (in *input) readList(decoder *strictjson.Decoder, name string) error {
	if _, err := decoder.ReadToken(); err != nil { // [
		return err
	}
	kind := decoder.PeekKind()
	if kind == jsontext.KindNumber {
		in.single = true
		return in.readIDs(decoder, name)
	}
	for i := 0; decoder.PeekKind() != jsontext.KindEndArray; i++ {
		if i == maxInputs {
			return tooManyInputs(name)
		}
		var err error
		switch kind {
		case jsontext.KindBeginArray:
			if _, err = strictjson.ReadKind(decoder, kind, name, "a list of token ids", i); err == nil {
				err = in.readIDs(decoder, name, i)
			}
		default:
			err = in.readText(decoder, name, i)
		}
		if err != nil {
			return err
		}
	}
	_, err := decoder.ReadToken() // ]
	return err
}

// readIDs reads the rest of one list of token ids, which is name or the element of it at index.
func (in *input) readIDs(decoder *strictjson.Decoder, name string, index ...int) error {
	ids := []uint32{}
	at := append(append(make([]int, 0, 2), index...), 0) // of each id
	for decoder.PeekKind() != jsontext.KindEndArray {
		at[len(index)] = len(ids)
		token, err := strictjson.ReadKind(decoder, jsontext.KindNumber, name, "a token id", at...)
		if err != nil {
			return err
		}
		id, err := token.Int()
		if err != nil { // or each id would be made a text
			if value, whole := strictjson.WholeNumber(token.String()); whole {
				id, err = value, nil
			}
		}
		if errors.Is(err, strconv.ErrSyntax) {
			param := strictjson.Element(name, at...)
			return fault.InField(fault.InvalidValue, param,
				"%s must be a token id, a whole number, not %s.", param, strictjson.Clip(token.String()))
		}
		if err != nil || id < 0 || id > math.MaxUint32 {
			param := strictjson.Element(name, at...)
			return fault.InField(fault.TokenIDOutOfRange, param,
				"%s is %s, which is no token id of any vocabulary.", param, strictjson.Clip(token.String()))
		}
		ids = append(ids, uint32(id))
	}
	in.ids = append(in.ids, ids)
	_, err := decoder.ReadToken() // ]
	return err
}
