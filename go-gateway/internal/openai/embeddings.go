package openai

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

const bytesPerFloat = 4

// AppendEmbeddings appends the reply to POST /v1/embeddings to buffer.
//
// It is written by hand because it is the hot one: base64 goes from the hot path's bytes straight into the reply, and
// no vector is ever a []float32. An error means that the hot path broke its contract.
func AppendEmbeddings(buffer []byte, request *EmbeddingsRequest, reply *inferencev1.EmbedResponse) ([]byte, error) {
	inputs := len(request.Embed.GetInputs())
	vectors := reply.GetEmbeddings() // [inputs, dimensions] little-endian float32
	row := int(reply.GetDimensions()) * bytesPerFloat
	if row == 0 || len(vectors) != inputs*row || len(reply.GetTokenCounts()) != inputs {
		return nil, fmt.Errorf("the hot path's reply to %d inputs has %d bytes of vectors of %d dimensions, and %d token counts",
			inputs, len(vectors), reply.GetDimensions(), len(reply.GetTokenCounts()))
	}
	buffer = append(buffer, `{"object":"list","data":[`...)
	for i := range inputs {
		if i > 0 {
			buffer = append(buffer, ',')
		}
		buffer = append(buffer, `{"object":"embedding","index":`...)
		buffer = strconv.AppendInt(buffer, int64(i), 10)
		buffer = append(buffer, `,"embedding":`...)
		vector := vectors[i*row : (i+1)*row]
		if request.Base64 {
			buffer = append(buffer, '"')
			buffer = base64.StdEncoding.AppendEncode(buffer, vector)
			buffer = append(buffer, '"', '}')
			continue
		}
		var err error
		if buffer, err = appendFloats(buffer, vector); err != nil {
			return nil, fmt.Errorf("input %d: %w", i, err)
		}
		buffer = append(buffer, '}')
	}
	buffer = append(buffer, `],"model":`...)
	buffer, err := jsontext.AppendQuote(buffer, request.Embed.GetModel())
	if err != nil {
		return nil, fmt.Errorf("model name: %w", err)
	}
	buffer = appendUsage(buffer, tokens(reply.GetTokenCounts()))
	if truncated := reply.GetTruncatedInputs(); len(truncated) > 0 {
		buffer = append(buffer, `,"truncated_inputs":`...)
		buffer = appendNumbers(buffer, truncated)
	}
	return append(buffer, '}'), nil
}

// tokens is what a request is charged: the sum of its inputs' counts.
func tokens(counts []uint32) uint64 {
	var sum uint64
	for _, count := range counts {
		sum += uint64(count)
	}
	return sum
}

func appendUsage(buffer []byte, tokens uint64) []byte {
	buffer = append(buffer, `,"usage":{"prompt_tokens":`...)
	buffer = strconv.AppendUint(buffer, tokens, 10)
	buffer = append(buffer, `,"total_tokens":`...)
	buffer = strconv.AppendUint(buffer, tokens, 10)
	return append(buffer, '}')
}

// appendFloats writes each number as the shortest decimal that reads back as the same float32.
func appendFloats(buffer, vector []byte) ([]byte, error) {
	buffer = append(buffer, '[')
	for offset := 0; offset < len(vector); offset += bytesPerFloat {
		if offset > 0 {
			buffer = append(buffer, ',')
		}
		number := float64(math.Float32frombits(binary.LittleEndian.Uint32(vector[offset:])))
		if math.IsNaN(number) || math.IsInf(number, 0) {
			return nil, fmt.Errorf("dimension %d is %v, which JSON cannot say", offset/bytesPerFloat, number)
		}
		buffer = strconv.AppendFloat(buffer, number, 'g', -1, 32)
	}
	return append(buffer, ']'), nil
}

func appendNumbers(buffer []byte, numbers []uint32) []byte {
	buffer = append(buffer, '[')
	for i, number := range numbers {
		if i > 0 {
			buffer = append(buffer, ',')
		}
		buffer = strconv.AppendUint(buffer, uint64(number), 10)
	}
	return append(buffer, ']')
}
