package openai

import (
	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/strictjson"
)

// EmbeddingsRequest is POST /v1/embeddings.
type EmbeddingsRequest struct {
	// Embed is the hot path's request; its scheduling is left to the caller.
	Embed *inferencev1.EmbedRequest
	// Base64 says how vectors are rendered: base64 of little-endian float32, or lists of numbers.
	Base64 bool
	inputTerms
}

// TokenizeRequest is POST /v1/tokenize.
type TokenizeRequest struct {
	// Tokenize is the hot path's request.
	Tokenize *inferencev1.TokenizeRequest
	inputTerms
}

// Embeddings reads the body of POST /v1/embeddings. Errors are *fault.Fault.
//
// What depends on the model (empty or over-long inputs, their number, the range of ids, dimensions) is the hot path's
// to judge.
func (d *Decoder) Embeddings(body []byte, ignored *strictjson.Names) (*EmbeddingsRequest, error) {
	var (
		in                               input
		model, encoding, user, tokenizer *string
		embed                            inferencev1.EmbedRequest
	)
	err := strictjson.Decode(body, strictjson.Fields{
		"input":           in.read,
		"model":           strictjson.String(&model),
		"encoding_format": strictjson.String(&encoding),
		"dimensions":      strictjson.Positive(&embed.Dimensions),
		"user":            strictjson.String(&user), // OpenAI's mark for an end user; accepted and not used
		"truncate":        strictjson.Bool(&embed.Truncate),
		"tokenizer":       strictjson.String(&tokenizer),
	}, ignored)
	if err != nil {
		return nil, err
	}
	if embed.Model, err = d.requiredModel(model); err != nil {
		return nil, err
	}
	if !in.present {
		return nil, strictjson.Missing("input")
	}
	if err := checkTokenizer(&in, "input", embed.Model, tokenizer); err != nil {
		return nil, err
	}
	base64, err := wantsBase64(encoding)
	if err != nil {
		return nil, err
	}
	embed.Inputs = embedInputs(&in)
	return &EmbeddingsRequest{Embed: &embed, Base64: base64, inputTerms: inputTerms{in.single}}, nil
}

// Tokenize reads the body of POST /v1/tokenize. Errors are *fault.Fault.
func (d *Decoder) Tokenize(body []byte, ignored *strictjson.Names) (*TokenizeRequest, error) {
	var (
		in    input
		model *string
	)
	err := strictjson.Decode(body, strictjson.Fields{
		"input": in.readTexts,
		"model": strictjson.String(&model),
	}, ignored)
	if err != nil {
		return nil, err
	}
	name, err := d.requiredModel(model)
	if err != nil {
		return nil, err
	}
	if !in.present {
		return nil, strictjson.Missing("input")
	}
	bytes := 0
	for _, text := range in.texts {
		bytes += len(text)
	}
	if bytes > d.MaxTokenizeBytes {
		return nil, fault.InField(fault.InputTooLong, "input",
			"input has %d bytes of text; at most %d are tokenized at once.", bytes, d.MaxTokenizeBytes)
	}
	return &TokenizeRequest{
		Tokenize:   &inferencev1.TokenizeRequest{Model: name, Texts: in.texts},
		inputTerms: inputTerms{in.single},
	}, nil
}

// maxModelNameBytes is the bundle manifest's bound on names: a longer one can be no model's, and is not worth a call.
const maxModelNameBytes = 64 // bytes

// requiredModel is the model that a request names, also by an alias.
func (d *Decoder) requiredModel(model *string) (string, error) {
	switch {
	case model == nil || *model == "":
		return "", strictjson.Missing("model")
	case len(*model) > maxModelNameBytes:
		return "", fault.InField(fault.InvalidValue, "model", "model has %d bytes; names have at most %d.",
			len(*model), maxModelNameBytes)
	default:
		return d.Resolve(*model), nil
	}
}

// checkTokenizer refuses ids that may be another tokenizer's: they would be in range and give silent garbage.
func checkTokenizer(in *input, name, model string, tokenizer *string) error {
	switch {
	case tokenizer != nil && *tokenizer != model:
		return fault.InField(fault.TokenizerMismatch, "tokenizer",
			"tokenizer is %q; the ids must be those of the model %q.", strictjson.Clip(*tokenizer), model)
	case tokenizer == nil && in.ids != nil:
		return fault.InField(fault.TokenizerMismatch, name,
			"%s holds token ids and does not say of which tokenizer. Send text (LangChain: check_embedding_ctx_length=False), "+
				"or, if the ids are from POST /v1/tokenize, add \"tokenizer\": %q.", name, model)
	default:
		return nil
	}
}

func wantsBase64(encoding *string) (bool, error) {
	if encoding == nil {
		return false, nil
	}
	switch *encoding {
	case "float":
		return false, nil
	case "base64":
		return true, nil
	default:
		return false, fault.InField(fault.InvalidValue, "encoding_format",
			"encoding_format must be \"float\" or \"base64\", not %q.", strictjson.Clip(*encoding))
	}
}

func embedInputs(in *input) []*inferencev1.EmbedInput {
	inputs := make([]*inferencev1.EmbedInput, 0, len(in.texts)+len(in.ids))
	for _, text := range in.texts {
		inputs = append(inputs, &inferencev1.EmbedInput{Input: &inferencev1.EmbedInput_Text{Text: text}})
	}
	for _, ids := range in.ids {
		tokens := &inferencev1.EmbedInput_TokenIds{TokenIds: &inferencev1.TokenIds{Ids: ids}}
		inputs = append(inputs, &inferencev1.EmbedInput{Input: tokens})
	}
	return inputs
}
