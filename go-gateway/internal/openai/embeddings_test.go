package openai

import (
	"encoding/base64"
	"encoding/binary"
	stdjson "encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

func bytesOf(numbers ...float32) []byte {
	var vector []byte
	for _, number := range numbers {
		vector = binary.LittleEndian.AppendUint32(vector, math.Float32bits(number))
	}
	return vector
}

func requestOf(model string, base64 bool, inputs int) *EmbeddingsRequest {
	embed := &inferencev1.EmbedRequest{Model: model, Inputs: make([]*inferencev1.EmbedInput, inputs)}
	return &EmbeddingsRequest{Embed: embed, Base64: base64}
}

func TestAppendEmbeddings(t *testing.T) {
	reply := &inferencev1.EmbedResponse{
		Dimensions: 2, Embeddings: bytesOf(1, -0.5, 0.1, 1e-9), TokenCounts: []uint32{3, 4}, TruncatedInputs: []uint32{0, 1},
	}
	got, err := AppendEmbeddings(nil, requestOf(`m"`, false, 2), reply)
	want := `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[1,-0.5]},` +
		`{"object":"embedding","index":1,"embedding":[0.1,1e-09]}],"model":"m\"",` +
		`"usage":{"prompt_tokens":7,"total_tokens":7},"truncated_inputs":[0,1]}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
	reply.TruncatedInputs = nil
	got, err = AppendEmbeddings([]byte("before:"), requestOf("m", true, 2), reply)
	want = `before:{"object":"list","data":[{"object":"embedding","index":0,"embedding":"` + base64.StdEncoding.EncodeToString(bytesOf(1, -0.5)) + `"},` +
		`{"object":"embedding","index":1,"embedding":"` + base64.StdEncoding.EncodeToString(bytesOf(0.1, 1e-9)) + `"}],"model":"m",` +
		`"usage":{"prompt_tokens":7,"total_tokens":7}}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestBothFormatsAreTheSameNumbersToTheLastBit(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	numbers := []float32{0, float32(math.Copysign(0, -1)), math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32, 1. / 3}
	for range 10_000 {
		if number := math.Float32frombits(random.Uint32()); number-number == 0 { // finite
			numbers = append(numbers, number)
		}
	}
	vector := bytesOf(numbers...)
	reply := &inferencev1.EmbedResponse{Dimensions: uint32(len(numbers)), Embeddings: vector, TokenCounts: []uint32{1}}
	var floats struct {
		Data []struct{ Embedding []float32 }
	}
	var encoded struct{ Data []struct{ Embedding []byte } }
	for _, form := range []struct {
		base64 bool
		into   any
	}{{false, &floats}, {true, &encoded}} {
		body, err := AppendEmbeddings(nil, requestOf("m", form.base64, 1), reply)
		if err != nil {
			t.Fatal(err)
		}
		if err := stdjson.Unmarshal(body, form.into); err != nil {
			t.Fatal(err)
		}
	}
	if string(encoded.Data[0].Embedding) != string(vector) {
		t.Error("base64 is not the hot path's bytes")
	}
	if string(bytesOf(floats.Data[0].Embedding...)) != string(vector) {
		t.Error("the decimals do not read back as the same numbers")
	}
}

func TestAppendEmbeddingsRefusesABrokenReply(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	replies := map[string]*inferencev1.EmbedResponse{
		"empty":             {},
		"too few vectors":   {Dimensions: 2, Embeddings: bytesOf(1, 2), TokenCounts: []uint32{1, 1}},
		"half a number":     {Dimensions: 2, Embeddings: bytesOf(1, 2, 3, 4)[:15], TokenCounts: []uint32{1, 1}},
		"too few counts":    {Dimensions: 2, Embeddings: bytesOf(1, 2, 3, 4), TokenCounts: []uint32{1}},
		"not a number":      {Dimensions: 2, Embeddings: bytesOf(1, 2, 3, nan), TokenCounts: []uint32{1, 1}},
		"an infinite value": {Dimensions: 2, Embeddings: bytesOf(1, inf, 3, 4), TokenCounts: []uint32{1, 1}},
	}
	for name, reply := range replies {
		if body, err := AppendEmbeddings(nil, requestOf("m", false, 2), reply); err == nil {
			t.Errorf("%s: got %s", name, body)
		}
	}
}

func TestRenderTokenize(t *testing.T) {
	request := &TokenizeRequest{Tokenize: &inferencev1.TokenizeRequest{Model: "m", Texts: []string{"a b"}}}
	reply := &inferencev1.TokenizeResponse{Texts: []*inferencev1.TokenizedText{{
		Ids: []uint32{101, 7, 102}, ByteStarts: []uint32{0, 0, 0}, ByteEnds: []uint32{0, 1, 0}, TokenCount: 3,
	}}}
	got, err := RenderTokenize(request, reply)
	want := `{"object":"list","data":[{"object":"tokenized_text","index":0,"tokens":[101,7,102],"offsets":[[0,0],[0,1],[0,0]],"count":3}],` +
		`"model":"m","usage":{"prompt_tokens":3,"total_tokens":3}}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
	reply.Texts[0].ByteEnds = nil
	if _, err := RenderTokenize(request, reply); err == nil {
		t.Error("a reply without offsets was accepted")
	}
	if _, err := RenderTokenize(request, &inferencev1.TokenizeResponse{}); err == nil {
		t.Error("a reply without texts was accepted")
	}
}

func TestRenderModels(t *testing.T) {
	got, err := RenderModels([]*inferencev1.Model{{
		Name: "m", Task: inferencev1.Task_TASK_EMBEDDING, State: inferencev1.ModelState_MODEL_STATE_READY,
		Revision: "0123456789abcdef", Precision: "block_quantized", CreateTime: &timestamppb.Timestamp{Seconds: 1700000000}, Owner: "o",
		Limits: &inferencev1.Limits{MaxTokens: 256, MaxInputs: 2048, VocabularySize: 30522}, Dimensions: []uint32{384},
		StatusMessage: "/secret/path",
	}, {Name: "n", State: inferencev1.ModelState_MODEL_STATE_LOADING}})
	want := `{"object":"list","data":[{"id":"m","object":"model","created":1700000000,"owned_by":"o","task":"embedding","state":"ready",` +
		`"revision":"0123456789abcdef","precision":"block_quantized","dimensions":[384],"limits":{"max_tokens":256,"max_inputs":2048,"vocabulary_size":30522}},` +
		`{"id":"n","object":"model","created":0,"owned_by":"","task":"unspecified","state":"loading","revision":"","precision":"",` +
		`"dimensions":[],"limits":{"max_inputs":0}}]}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
}

func BenchmarkAppendEmbeddings(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, inputs := range []int{1, 32, 2048} {
		numbers := make([]float32, inputs*384)
		for i := range numbers {
			numbers[i] = float32(random.NormFloat64()) / 20
		}
		reply := &inferencev1.EmbedResponse{Dimensions: 384, Embeddings: bytesOf(numbers...), TokenCounts: make([]uint32, inputs)}
		for _, format := range []string{"base64", "float"} {
			b.Run(fmt.Sprintf("%s/%d", format, inputs), func(b *testing.B) {
				request := requestOf("all-minilm-l6-v2", format == "base64", inputs)
				b.SetBytes(int64(len(reply.GetEmbeddings())))
				b.ReportAllocs()
				var buffer []byte
				for b.Loop() {
					var err error
					if buffer, err = AppendEmbeddings(buffer[:0], request, reply); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkDecodeEmbeddings(b *testing.B) {
	for _, inputs := range []int{1, 32, 2048} {
		texts := strings.Repeat(`"A sentence of some twenty tokens, as they come to an embedding model in real life.",`, inputs)
		body := []byte(`{"model":"all-minilm-l6-v2","encoding_format":"base64","input":[` + strings.TrimSuffix(texts, ",") + `]}`)
		b.Run(fmt.Sprint(inputs), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := plain.Embeddings(body, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
