package strictjson

import (
	"fmt"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
)

// Number reads a number from minimum to maximum.
func Number(minimum, maximum float32, set func(float32)) Field {
	expected := fmt.Sprintf("a number from %v to %v", minimum, maximum)
	return number(expected, func(value float32) bool { return value >= minimum && value <= maximum }, set)
}

// NumberAbove reads a number above limit, and at most maximum.
func NumberAbove(limit, maximum float32, set func(float32)) Field {
	expected := fmt.Sprintf("a number above %v, and at most %v", limit, maximum)
	return number(expected, func(value float32) bool { return value > limit && value <= maximum }, set)
}

func number(expected string, inRange func(float32) bool, set func(float32)) Field {
	return func(decoder *jsontext.Decoder, name string) error {
		token, err := ReadKind(decoder, jsontext.KindNumber, name, expected)
		if err != nil {
			return err
		}
		value, _ := strconv.ParseFloat(token.String(), 32) // beyond float32 it is infinite, and refused
		if !inRange(float32(value)) {
			return outOfRange(name, expected, token)
		}
		set(float32(value))
		return nil
	}
}

// Uint32 reads a whole number from least to most.
func Uint32(least, most uint32, set func(uint32)) Field {
	expected := fmt.Sprintf("a whole number from %d to %d", least, most)
	if most == math.MaxUint32 {
		expected = fmt.Sprintf("a whole number of at least %d", least)
	}
	return func(decoder *jsontext.Decoder, name string) error {
		token, err := ReadKind(decoder, jsontext.KindNumber, name, expected)
		if err != nil {
			return err
		}
		value, err := strconv.ParseUint(token.String(), 10, 32)
		if err != nil || uint32(value) < least || uint32(value) > most {
			return outOfRange(name, expected, token)
		}
		set(uint32(value))
		return nil
	}
}

// Positive reads a whole number from 1 to 2³² − 1.
func Positive(destination *uint32) Field {
	return Uint32(1, math.MaxUint32, func(value uint32) { *destination = value })
}

// Bits64 reads a whole number of 64 bits, with or without a sign.
func Bits64(set func(uint64)) Field {
	const expected = "a whole number of at most 64 bits"
	return func(decoder *jsontext.Decoder, name string) error {
		token, err := ReadKind(decoder, jsontext.KindNumber, name, expected)
		if err != nil {
			return err
		}
		if signed, err := strconv.ParseInt(token.String(), 10, 64); err == nil {
			set(uint64(signed))
			return nil
		}
		value, err := strconv.ParseUint(token.String(), 10, 64)
		if err != nil {
			return outOfRange(name, expected, token)
		}
		set(value)
		return nil
	}
}

func outOfRange(name, expected string, token jsontext.Token) *fault.Fault {
	return fault.InField(fault.InvalidValue, name, "%s must be %s, not %s.", name, expected, Clip(token.String()))
}
