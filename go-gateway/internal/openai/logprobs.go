package openai

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// leastLogprob is OpenAI's number for a token that is as good as impossible: JSON has no infinity.
const leastLogprob = -9999

// tokenText is a token as text. Bytes that are only part of a character are written as \xNN, after prefix; a control
// token, which has no bytes, as token_id:N.
func tokenText(id uint32, text []byte, prefix string) string {
	if len(text) == 0 {
		return fmt.Sprintf("token_id:%d", id)
	}
	if utf8.Valid(text) {
		return string(text)
	}
	escaped := []byte(prefix)
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 {
			escaped = fmt.Appendf(escaped, `\x%02x`, text[0])
		} else {
			escaped = append(escaped, text[:size]...)
		}
		text = text[size:]
	}
	return string(escaped)
}

// countRunes counts the characters that begin in some bytes.
func countRunes(text []byte) int {
	count := 0
	for _, char := range text {
		if utf8.RuneStart(char) {
			count++
		}
	}
	return count
}

func appendLogprob(buffer []byte, logprob float32) ([]byte, error) {
	number := float64(logprob)
	if math.IsNaN(number) {
		return nil, errors.New("a log-probability is not a number")
	}
	number = min(max(number, leastLogprob), 0) // a certain token's may be a rounding error above 0
	return strconv.AppendFloat(buffer, number, 'g', -1, 32), nil
}
