package openai

import (
	"fmt"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
)

// span is the range of a number, which the contract states.
type span struct {
	least, most float32
	open        bool // least itself is not in it
}

func (s span) contains(value float32) bool {
	return value <= s.most && (value > s.least || value == s.least && !s.open)
}

func (s span) String() string {
	if s.open {
		return fmt.Sprintf("a number above %v, and at most %v", s.least, s.most)
	}
	return fmt.Sprintf("a number from %v to %v", s.least, s.most)
}

// number reads a number within a span.
func number(within span, set func(float32)) readField {
	return func(decoder *jsontext.Decoder, name string) error {
		token, err := readKind(decoder, jsontext.KindNumber, name, within.String())
		if err != nil {
			return err
		}
		value, _ := strconv.ParseFloat(token.String(), 32) // beyond float32 it is infinite, and refused
		if !within.contains(float32(value)) {
			return outOfRange(name, within.String(), token)
		}
		set(float32(value))
		return nil
	}
}

// whole reads a whole number from least to most.
func whole(least, most uint32, set func(uint32)) readField {
	wanted := fmt.Sprintf("a whole number from %d to %d", least, most)
	if most == math.MaxUint32 {
		wanted = fmt.Sprintf("a whole number of at least %d", least)
	}
	return func(decoder *jsontext.Decoder, name string) error {
		token, err := readKind(decoder, jsontext.KindNumber, name, wanted)
		if err != nil {
			return err
		}
		value, err := strconv.ParseUint(token.String(), 10, 32)
		if err != nil || uint32(value) < least || uint32(value) > most {
			return outOfRange(name, wanted, token)
		}
		set(uint32(value))
		return nil
	}
}

// seed reads a whole number of 64 bits, with or without a sign.
func seed(set func(uint64)) readField {
	const wanted = "a whole number of at most 64 bits"
	return func(decoder *jsontext.Decoder, name string) error {
		token, err := readKind(decoder, jsontext.KindNumber, name, wanted)
		if err != nil {
			return err
		}
		if signed, err := strconv.ParseInt(token.String(), 10, 64); err == nil {
			set(uint64(signed))
			return nil
		}
		value, err := strconv.ParseUint(token.String(), 10, 64)
		if err != nil {
			return outOfRange(name, wanted, token)
		}
		set(value)
		return nil
	}
}

func outOfRange(name, wanted string, token jsontext.Token) *fault.Fault {
	return fault.InField(fault.InvalidValue, name, "%s must be %s, not %s.", name, wanted, clip(token.String()))
}
