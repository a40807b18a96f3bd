package openai

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

// leastLogprob is OpenAI's number for a token that is as good as impossible: JSON has no infinity.
const leastLogprob = -9999

// appendChatLogprobs writes a chat's "logprobs" of some tokens.
func appendChatLogprobs(buffer []byte, tokens []*inferencev1.GeneratedToken) ([]byte, error) {
	buffer = append(buffer, `{"content":[`...)
	for i, token := range tokens {
		if i > 0 {
			buffer = append(buffer, ',')
		}
		buffer = append(buffer, '{')
		var err error
		if buffer, err = appendChatToken(buffer, token.GetId(), token.GetBytes(), token.GetLogprob()); err != nil {
			return nil, err
		}
		buffer = append(buffer, `,"top_logprobs":[`...)
		for j, top := range token.GetTopLogprobs() {
			if j > 0 {
				buffer = append(buffer, ',')
			}
			buffer = append(buffer, '{')
			if buffer, err = appendChatToken(buffer, top.GetId(), top.GetBytes(), top.GetLogprob()); err != nil {
				return nil, err
			}
			buffer = append(buffer, '}')
		}
		buffer = append(buffer, "]}"...)
	}
	return append(buffer, `],"refusal":null}`...), nil
}

// appendChatToken writes the fields of one token.
func appendChatToken(buffer []byte, id uint32, said []byte, logprob float32) ([]byte, error) {
	buffer = append(buffer, `"token":`...)
	buffer, err := jsontext.AppendQuote(buffer, tokenText(id, said, ""))
	if err != nil {
		return nil, err
	}
	buffer = append(buffer, `,"logprob":`...)
	if buffer, err = appendLogprob(buffer, logprob); err != nil {
		return nil, err
	}
	buffer = append(buffer, `,"bytes":`...)
	if len(said) == 0 {
		return append(buffer, "null"...), nil
	}
	for i, one := range said {
		separator := byte(',')
		if i == 0 {
			separator = '['
		}
		buffer = append(buffer, separator)
		buffer = strconv.AppendUint(buffer, uint64(one), 10)
	}
	return append(buffer, ']'), nil
}

// appendCompletionLogprobs writes a completion's "logprobs" of some tokens. offset is how many characters the choice had
// before them; the result is how many it has after them.
func appendCompletionLogprobs(buffer []byte, tokens []*inferencev1.GeneratedToken, top bool, offset int) ([]byte, int, error) {
	names, logprobs, tops, offsets := []byte(`{"tokens":[`), []byte(`],"token_logprobs":[`), []byte(`],"top_logprobs":[`), []byte(`],"text_offset":[`)
	for i, token := range tokens {
		if i > 0 {
			names, logprobs, tops, offsets = append(names, ','), append(logprobs, ','), append(tops, ','), append(offsets, ',')
		}
		var err error
		if names, err = jsontext.AppendQuote(names, tokenText(token.GetId(), token.GetBytes(), bytesPrefix)); err != nil {
			return nil, 0, err
		}
		if logprobs, err = appendLogprob(logprobs, token.GetLogprob()); err != nil {
			return nil, 0, err
		}
		if tops, err = appendTopMap(tops, token.GetTopLogprobs()); err != nil {
			return nil, 0, err
		}
		offsets = strconv.AppendInt(offsets, int64(offset), 10)
		offset += characters(token.GetBytes())
	}
	if !top {
		tops = []byte(`],"top_logprobs":null,"text_offset":[`)
		offsets = offsets[len(`],"text_offset":[`):]
	}
	for _, part := range [][]byte{names, logprobs, tops, offsets} {
		buffer = append(buffer, part...)
	}
	return append(buffer, "]}"...), offset, nil
}

// appendTopMap writes the likeliest tokens as an object by text. Of tokens that read alike it has the likeliest.
func appendTopMap(buffer []byte, tops []*inferencev1.TokenLogprob) ([]byte, error) {
	buffer = append(buffer, '{')
	seen := make(map[string]bool, len(tops))
	for _, top := range tops {
		name := tokenText(top.GetId(), top.GetBytes(), bytesPrefix)
		if seen[name] {
			continue
		}
		if len(seen) > 0 {
			buffer = append(buffer, ',')
		}
		seen[name] = true
		var err error
		if buffer, err = jsontext.AppendQuote(buffer, name); err != nil {
			return nil, err
		}
		buffer = append(buffer, ':')
		if buffer, err = appendLogprob(buffer, top.GetLogprob()); err != nil {
			return nil, err
		}
	}
	return append(buffer, '}'), nil
}

// bytesPrefix marks, in completions, a token that is no text by itself.
const bytesPrefix = "bytes:"

// tokenText is a token as text. Bytes that are only part of a character are written as \xNN, after prefix; a control token,
// which has no bytes, as token_id:N.
func tokenText(id uint32, said []byte, prefix string) string {
	if len(said) == 0 {
		return fmt.Sprintf("token_id:%d", id)
	}
	if utf8.Valid(said) {
		return string(said)
	}
	escaped := []byte(prefix)
	for len(said) > 0 {
		char, size := utf8.DecodeRune(said)
		if char == utf8.RuneError && size == 1 {
			escaped = fmt.Appendf(escaped, `\x%02x`, said[0])
		} else {
			escaped = append(escaped, said[:size]...)
		}
		said = said[size:]
	}
	return string(escaped)
}

// characters counts those that begin in some bytes.
func characters(said []byte) int {
	count := 0
	for _, one := range said {
		if utf8.RuneStart(one) {
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
