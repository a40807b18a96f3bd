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
	return func(decoder *Decoder, name string) error {
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

// WholeNumber is the value of a number that is whole, however it is written: 16, 16.0 or 1.6e1.
func WholeNumber(text string) (int64, bool) {
	if value, err := strconv.ParseInt(text, 10, 64); err == nil {
		return value, true
	}
	const exact = 1 << 53 // above it a float64 is no longer what was written
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || value != math.Trunc(value) || math.Abs(value) > exact {
		return 0, false
	}
	return int64(value), true
}

// Whole reads a whole number from least to most.
func Whole(least, most int64, set func(int64)) Field {
	expected := fmt.Sprintf("a whole number from %d to %d", least, most)
	return func(decoder *Decoder, name string) error {
		token, err := ReadKind(decoder, jsontext.KindNumber, name, expected)
		if err != nil {
			return err
		}
		value, whole := WholeNumber(token.String())
		if !whole || value < least || value > most {
			return outOfRange(name, expected, token)
		}
		set(value)
		return nil
	}
}

// Uint32 reads a whole number from least to most.
func Uint32(least, most uint32, set func(uint32)) Field {
	return Whole(int64(least), int64(most), func(value int64) { set(uint32(value)) })
}

// Positive reads a whole number from 1 to 2³² − 1.
func Positive(destination *uint32) Field {
	return Uint32(1, math.MaxUint32, func(value uint32) { *destination = value })
}

// Bits64 reads a whole number of 64 bits, with or without a sign.
func Bits64(set func(uint64)) Field {
	const expected = "a whole number of at most 64 bits"
	return func(decoder *Decoder, name string) error {
		token, err := ReadKind(decoder, jsontext.KindNumber, name, expected)
		if err != nil {
			return err
		}
		if signed, whole := WholeNumber(token.String()); whole {
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
